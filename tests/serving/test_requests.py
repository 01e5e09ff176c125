"""Requests as programs get them wrong, and as strangers send them: forms, addresses, tokens, connections, what the log says of them."""

import asyncio
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
from filelock import FileLock, Timeout
from starlette.responses import PlainTextResponse

from pipeline.serving import app, guard, upload
from pipeline.serving.guard import Access, Guard
from pipeline.serving.jobs import Limits
from tests.serving import examinations
from tests.serving.page_server import Page, running_page, wait_for

TOKEN = "ab+c/d=&é"  # as `openssl rand -base64` makes them, and worse


@pytest.fixture(scope="module")
def picture(heads, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return examinations.png(tmp_path_factory.mktemp("picture") / "mr.png", heads[1][0]).read_bytes()


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Page]:
    with running_page({"ct": str(models)}, access=Access(user_header="X-User", log_requests=True)) as page:
        yield page


def post(page: Page, fields: list[tuple[str, tuple]], path: str = "/translate") -> httpx.Response:
    return httpx.post(page.address + path, files=fields, headers={"X-User": "alice"}, timeout=60)


def words(*pairs: tuple[str, str]) -> list[tuple[str, tuple]]:
    return [(name, (None, value)) for name, value in pairs]


def raw(page: Page, request: str) -> str:
    with socket.create_connection(("127.0.0.1", page.port), timeout=20) as line:
        line.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\nX-User: alice\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: line.recv(2**16), b"")).decode("latin-1")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (words(("to", "ct"), ("ctvalues", "hu")), "field ctvalues: unknown; expected files, to, contrast, uncertainty, ct_values"),
        (words(("to", "ct"), ("to", "mr")), "field to: given more than once"),
        (words(("to", "ct"), ("uncertainty", "yes")), "uncertainty yes: expected true or false"),
        (words(("to", "x\n\x1b" + "y" * 1000)), r"to x\\n\\x1by{37}…: this server translates to ct"),
        ([*words(("to", "ct")), ("file", ("other.img", b"x"))], "a file in the field file; expected files in files"),
        (words(("to", "ct"), ("files", "text")), "text in the field files; expected files in files"),
    ],
)
def test_what_a_form_says_is_understood_or_refused(served: Page, picture: bytes, fields: list[tuple[str, tuple]], said: str) -> None:
    answer = post(served, [*fields, ("files", ("mr.png", picture))])
    assert answer.status_code == 422
    assert re.match(said, answer.json()["error"])


def test_a_form_in_an_odd_character_set_is_refused_or_read(served: Page, picture: bytes) -> None:
    name = "a" * 60
    form = f'--B\r\nContent-Disposition: form-data; name="files"; filename="{name}.png"\r\n\r\n'.encode() + picture + b"\r\n--B--\r\n"
    for charset, status in (("punycode", 400), ("utf-8", 422)):
        headers = {"X-User": "alice", "Content-Type": f"multipart/form-data; charset={charset}; boundary=B"}
        answer = httpx.post(f"{served.address}/translate", content=form, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])


def test_addresses_there_are_not(served: Page, picture: bytes) -> None:
    fields = [*words(("to", "ct")), ("files", ("mr.png", picture))]
    number = post(served, fields, "/api/translations").json()["id"]
    place = f"/api/translations/{number}"
    while httpx.get(served.address + place, headers={"X-User": "alice"}).json()["state"] != "done":
        time.sleep(0.1)
    for last in ("9" * 5000, "-1", "1", "0x0", "٠"):
        assert " 404 " in raw(served, f"GET {place}/slices/{quote(last)}").splitlines()[0]
    assert " 200 " in raw(served, f"GET {place}/slices/0").splitlines()[0]
    assert " 404 " in raw(served, "GET /api/models/").splitlines()[0]  # no redirect: it would name http behind a proxy with TLS


def test_a_line_of_the_log_is_one_request_and_tells_nothing_of_a_patient(served: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ctmr.audit")
    raw(served, "GET /Doe%0a2026-11-30T10:00:00%20bob%20GET%20/%20200")
    raw(served, "GET /api/translations/Doe-Jane-1970/download")
    httpx.get(served.address, headers={"X-User": "Zoë\x9b".encode("latin-1")})
    httpx.get(served.address, headers={"X-User": "Zoë".encode()})
    wait_for(lambda: len(caplog.messages) >= 4)  # a line is written once the answer is on its way
    assert [message.split()[1:5] for message in caplog.messages] == [
        ["alice", "GET", "(unknown)", "404"],
        ["alice", "GET", "/api/translations/Doe-…/download", "404"],
        ["Zoë\\x9b", "GET", "/", "200"],
        ["Zoë", "GET", "/", "200"],
    ]


def test_a_defect_is_logged_without_what_it_says_and_answered_in_one_line(
    served: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(served.app.state.jobs, "get", lambda number: {}["Doe^Jane"])
    answer = httpx.get(f"{served.address}/api/translations/x", headers={"X-User": "alice"})
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert any(message.startswith("defect: KeyError in test_requests.py") for message in caplog.messages)
    assert "Doe" not in caplog.text + capfd.readouterr().err


def test_any_token_works_as_printed_as_bearer_and_as_cookie() -> None:
    async def answer(scope, receive, send) -> None:
        await PlainTextResponse("in")(scope, receive, send)

    async def ask() -> None:
        guarded = httpx.ASGITransport(Guard(answer, Access(token=TOKEN), Limits(), ""))
        async with httpx.AsyncClient(transport=guarded, base_url="http://localhost", follow_redirects=True) as browser:
            assert (await browser.get(app.address("localhost", 80, TOKEN))).text == "in"
            assert (await browser.get("/api/models")).text == "in"
            assert TOKEN not in str(browser.cookies)
        async with httpx.AsyncClient(transport=guarded, base_url="http://localhost") as program:
            for given in (f"Bearer {TOKEN}".encode(), f"bearer {TOKEN}".encode("latin-1")):
                headers = {"Authorization": given, "Cookie": f"{guard.COOKIE}=of-another-start"}
                assert (await program.get("/", headers=headers)).text == "in"
            assert (await program.get("/", headers={"Authorization": "Bearer ab c/d=&é".encode()})).status_code == 401

    asyncio.run(ask())


def test_too_many_connections_are_closed_and_later_ones_served(served: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CONNECTIONS", 3)
    lines = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(3)]
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as one_more:
        assert one_more.recv(1) == b""
    for line in lines:
        line.close()
    time.sleep(0.2)
    assert httpx.get(served.address, headers={"X-User": "alice"}).status_code == 200


def test_an_upload_of_many_files_takes_no_memory(served: Page) -> None:
    """64 such uploads at once are taken."""
    before, most, ended = psutil.Process().memory_info().rss, 0, threading.Event()

    def chunks() -> Iterator[bytes]:
        nonlocal most
        for number in range(30):
            head = f'--B\r\nContent-Disposition: form-data; name="files"; filename="{number}"\r\n\r\n'
            yield head.encode() + bytes(10**6) + b"\r\n"
            most = max(most, psutil.Process().memory_info().rss)
        yield b"--B--\r\n"
        ended.set()

    headers = {"X-User": "alice", "Content-Type": "multipart/form-data; boundary=B"}
    answer = httpx.post(f"{served.address}/translate", content=chunks(), headers=headers, timeout=60)
    assert answer.status_code == 422
    assert ended.is_set()
    assert most - before < 15 * 2**20
    assert upload._Parser.spool_max_size * served.app.state.jobs.limits.files * served.app.state.jobs.limits.uploads <= 2**31


def test_a_folder_that_a_cleaner_removed_is_made_anew_and_closed_to_others(served: Page, picture: bytes) -> None:
    folder = served.app.state.jobs.folder
    shutil.rmtree(folder)
    assert post(served, [*words(("to", "ct")), ("files", ("mr.png", picture))]).status_code == 200
    assert folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Timeout):
        FileLock(folder / "lock", timeout=0, thread_local=False, blocking=False).acquire()


def test_a_waiting_upload_whose_client_went_away_is_not_translated(served: Page, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ASK_SECONDS", 0.05)
    jobs, go_on, begun = served.app.state.jobs, threading.Event(), []
    jobs._thread.submit(go_on.wait)
    monkeypatch.setattr(jobs, "_run", begun.append)
    waiting = len(jobs._jobs)
    with pytest.raises(httpx.ReadTimeout):
        files, headers = {"files": picture}, {"X-User": "alice"}
        httpx.post(f"{served.address}/translate", files=files, data={"to": "ct"}, headers=headers, timeout=0.5)
    end = time.monotonic() + 20
    while len(jobs._jobs) > waiting and time.monotonic() < end:
        time.sleep(0.05)
    go_on.set()
    jobs._thread.submit(lambda: None).result(20)
    assert begun == []
    assert len(jobs._jobs) == waiting
