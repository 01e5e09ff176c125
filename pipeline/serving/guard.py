"""What every request passes before the page: who may ask, from where, how much and how long, and what browsers are told."""

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.requests import cookie_parser
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import as_one_line
from pipeline.serving.jobs import Limits
from pipeline.serving.worker import describe_defect

COOKIE = "ctmr_token"
MARK = 100  # bytes that hold the end of a form: its boundary, with -- before and after
HEADER_SECONDS = 20  # from the first byte of a connection to the end of a request's headers
CONNECTIONS = 1000  # open at once, and at most half of the files that the process may have open

audit = logging.getLogger("ctmr.audit")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    hosts: names by which it may be called. token: what each request must bring, unless None. user_header: a header in which a reverse
    proxy names the user whom it let in; requests without it are refused. log_requests: a line for each request.
    """

    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")
    token: str | None = None
    user_header: str | None = None
    log_requests: bool = False


class Guard:
    """ASGI middleware that holds `access` and the upload limits, and adds security headers to every answer."""

    def __init__(self, app: Callable[..., Awaitable[None]], access: Access, limits: Limits, page: str) -> None:
        self.app, self.access, self.limits = app, access, limits
        self.headers = security_headers(page)
        self.key = access.token and hashlib.sha256(access.token.encode()).hexdigest()  # in the cookie, which cannot hold every character
        self.uploads: set[object] = set()  # bodies that are on their way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.monotonic(), 0
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *self.headers]}
            await send(message)

        try:
            await self._answer(scope, headers, receive, send_with_headers)
        except Exception as error:
            logging.getLogger("ctmr.serve").error("%s", describe_defect(error))
            if not status:  # else part of an answer is on its way, and the server breaks the connection
                await _error(500, "a defect of this program; its log says where")(scope, receive, send_with_headers)
        finally:
            if self.access.log_requests:
                self._log(scope, headers, status, time.monotonic() - began)

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        answer = self.refuse(scope, headers)
        if answer is not None:
            await answer(scope, receive, send)
        elif scope["method"] == "POST":
            await self._pass_upload(scope, receive, send)
        else:  # the answer to HEAD is that to GET, of which the protocol sends no body
            await self.app({**scope, "method": "GET"} if scope["method"] == "HEAD" else scope, receive, send)

    def _log(self, scope: Scope, headers: dict[str, str], status: int, seconds: float) -> None:
        """One line. Nothing that a client writes can begin another, and of addresses only those there are stand in it."""
        user = as_one_line(_as_text(headers.get((self.access.user_header or "").lower(), ""))) or "-"
        client = (scope.get("client") or ("-",))[0]
        audit.info("%s %s %s %s %s %.1f s", client, user, scope["method"], _known_path(scope["path"]), status or "-", seconds)

    def refuse(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        """The answer to a request that may not pass; None for one that may."""
        access = self.access
        host = re.sub(r":\d+$", "", headers.get("host", "")).rstrip(".")
        if "*" not in access.hosts and host.lower() not in map(str.lower, access.hosts):
            name = f"{host or 'otherwise'} start it with --allow-host {host or 'NAME'}"
            return _error(421, f"this server answers to {', '.join(access.hosts)}; to call it {name}")
        if access.user_header and not headers.get(access.user_header.lower()):
            return _error(401, f"no user in the header {access.user_header}; come through the reverse proxy that signs users in")
        if access.token:
            query = parse_qs(scope["query_string"].decode("latin-1"))
            if scope["method"] == "GET" and _same(query.pop("token", [""])[0], access.token):
                return self._sign_in(scope, query)
            cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
            scheme, _, bearer = headers.get("authorization", "").partition(" ")
            if not _same(cookie, str(self.key)) and not (scheme.lower() == "bearer" and _same(_as_text(bearer.strip()), access.token)):
                return _error(401, "a token is needed: open the address that ctmr serve printed, or send Authorization: Bearer TOKEN")
        if scope["method"] not in ("GET", "HEAD") and _is_cross_site(headers):
            return _error(403, "this request comes from another site's page; use the page of this server")
        return None

    def _sign_in(self, scope: Scope, query: dict[str, list[str]]) -> Response:
        """Move the token from the address into a cookie, so that it stays out of bookmarks and logs."""
        rest = urlencode(query, doseq=True)
        answer = RedirectResponse("./" + (f"?{rest}" if rest else ""), status_code=303)
        answer.set_cookie(COOKIE, str(self.key), httponly=True, samesite="strict", path=scope.get("root_path") or "/")
        return answer

    async def _pass_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the body pass within the limits of size and time. A limit that breaks is raised where the application reads the body."""
        if len(self.uploads) >= self.limits.uploads:
            return await _error(503, "too many uploads at once; try again in a minute")(scope, receive, send)
        limits, length, began, tail = self.limits, 0, time.monotonic(), b""
        headers = dict(scope["headers"])
        claimed, has_parts = headers.get(b"content-length", b"0"), headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        if not claimed.isdigit() or int(claimed) > limits.bytes:
            return await _error(413, _too_large(limits))(scope, receive, send)
        body = object()
        self.uploads.add(body)

        async def receive_within_limits() -> Any:
            nonlocal length, tail
            if body not in self.uploads:  # what follows is the client going away, for which one may wait long
                return await receive()
            left = min(limits.idle_seconds, limits.upload_seconds - (time.monotonic() - began))
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.01))
            except TimeoutError:
                raise BrokenLimit(408, "the upload stopped or took too long; send it again") from None
            length += len(message.get("body", b""))
            if length > limits.bytes:
                raise BrokenLimit(413, _too_large(limits))
            tail = (tail + message.get("body", b""))[-MARK:]
            if not message.get("more_body", False):
                self.uploads.discard(body)
                if has_parts and not tail.rstrip().endswith(b"--"):  # the parser would drop the file that was cut off without a word
                    raise BrokenLimit(400, "the upload was cut off; send it again")
            return message

        try:
            await self.app(scope, receive_within_limits, send)
        finally:
            self.uploads.discard(body)


class BrokenLimit(Exception):
    """A limit that the body of a request broke, with the status of the answer. The application answers it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TimedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, but a connection whose request headers do not end within HEADER_SECONDS is closed, and so is one too
    many."""

    def connection_made(self, transport: Any) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2):
            transport.abort()
        self._timer = self.loop.call_later(HEADER_SECONDS, self._close_if_no_request)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._has_request() and self._timer.cancelled():
            self._timer = self.loop.call_later(HEADER_SECONDS, self._close_if_no_request)
        elif self._has_request():
            self._timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _close_if_no_request(self) -> None:
        if not self._has_request() and not self.transport.is_closing():
            self.transport.close()


def security_headers(page: str) -> list[tuple[bytes, bytes]]:
    """What browsers are told with every answer: only the page's own script and style run, nothing loads from elsewhere, no framing."""
    scripts = " ".join(_source_hash(text) for text in re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    styles = " ".join(_source_hash(text) for text in re.findall(r"<style>(.*?)</style>", page, re.DOTALL))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _is_cross_site(headers: dict[str, str]) -> bool:
    """Whether a browser sent this from another site's page. Programs that are no browsers send neither header."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


def _known_path(path: str) -> str:
    """The path for the log. Of a result's id, which lets anybody fetch it, only the beginning; of an address there is not, nothing."""
    found = re.fullmatch(r"/|/translate|/api/(?:models|translations(?:/([\w-]+)(?:/download|/slices/\d{1,9})?)?)", path, re.ASCII)
    if not found:
        return "(unknown)"
    return path.replace(found[1], found[1][:4] + "…") if found[1] else path


def _as_text(value: str) -> str:
    """A header's value, which came as bytes of Latin-1, as the UTF-8 that most clients write."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def _too_large(limits: Limits) -> str:
    return f"more than {limits.bytes / 2**20:.0f} MiB at once; use ctmr translate"


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)
