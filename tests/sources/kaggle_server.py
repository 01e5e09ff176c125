"""A stand-in for Kaggle on localhost:7777, where kagglehub looks in its test mode: the real client downloads from it.

It answers the two calls that a data-set download makes, redirects to a file address that knows ranges and the MD5 header as Google's
storage does, and misbehaves on request.
"""

import base64
import contextlib
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import filelock

PORT = 7777


@dataclass
class KaggleServer:
    """What is served, how it misbehaves, and what was asked."""

    archives: dict[str, bytes] = field(default_factory=dict)  # "owner/name/versions/1" -> zip
    status: int = 200  # answer every call with this status instead
    breaks_after: list[int | None] = field(default_factory=list)  # per file request: bytes after which its connection breaks
    checksum: str | None = None  # X-Goog-Hash to send instead of the true one; "" sends none
    ranges: bool = True
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def serve(self, handle: str, version: int, archive: Path | bytes) -> None:
        self.archives[f"{handle}/versions/{version}"] = archive if isinstance(archive, bytes) else archive.read_bytes()


def port_lock() -> filelock.BaseFileLock:
    """The port is fixed by the client, so one process at a time on a machine may use it, or count on nobody listening."""
    return filelock.FileLock(Path(tempfile.gettempdir()) / f"kaggle-port-{PORT}.lock")


@contextlib.contextmanager
def running() -> Iterator[KaggleServer]:
    """The server, while the block lasts."""
    state = KaggleServer()
    with port_lock():
        server = ThreadingHTTPServer(("localhost", PORT), _handler(state))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(state: KaggleServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            call = self.path.rsplit("/", 1)[-1]
            state.requests.append(call)
            if "Authorization" in self.headers:
                state.authorizations.append(self.headers["Authorization"])
            name = f"{body.get('ownerSlug')}/{body.get('datasetSlug')}"
            if state.status != 200:
                self.answer_json(state.status, {"code": state.status, "message": "refused on request"})
            elif call == "GetDataset" and any(known.startswith(f"{name}/") for known in state.archives):
                versions = [int(known.rsplit("/", 1)[1]) for known in state.archives if known.startswith(f"{name}/")]
                self.answer_json(200, {"currentVersionNumber": max(versions)})
            elif call == "DownloadDataset" and f"{name}/versions/{body.get('datasetVersionNumber')}" in state.archives:
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{PORT}/storage/{name}/versions/{body['datasetVersionNumber']}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.answer_json(404, {"code": 404, "message": "not found"})

        def do_GET(self) -> None:
            content = state.archives.get(self.path.removeprefix("/storage/"))
            wanted = self.headers.get("Range", "") if state.ranges else ""
            state.requests.append(f"GET {wanted}".strip())
            if content is None:
                return self.answer_json(404, {"code": 404, "message": "not found"})
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if wanted and start >= len(content):
                return self.answer_json(416, {"code": 416, "message": "range not satisfiable"})
            self.send_response(206 if wanted else 200)
            # With a charset the client's test mode, which prints bodies as text, does not have to guess one for the whole archive.
            self.send_header("Content-Type", "application/zip; charset=latin-1")
            self.send_header("Content-Length", str(len(content) - start))
            if state.ranges:
                self.send_header("Accept-Ranges", "bytes")
            checksum = base64.b64encode(hashlib.md5(content).digest()).decode() if state.checksum is None else state.checksum
            if checksum:
                self.send_header("X-Goog-Hash", f"crc32c=AAAAAA==,md5={checksum}")
            self.end_headers()
            end = len(content)
            if state.breaks_after and (sent := state.breaks_after.pop(0)) is not None:
                end = start + sent
                self.close_connection = True
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[start:end])

        def answer_json(self, status: int, content: dict[str, object]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    return Handler
