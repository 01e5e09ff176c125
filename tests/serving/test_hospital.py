"""The page as a hospital's IT would try it: files that take the machine, uploads that hang, strangers, restarts, full disks."""

import gzip
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest

from pipeline import params
from pipeline.serving import guard, jobs
from pipeline.serving.app import choose_access
from pipeline.serving.guard import Access
from pipeline.serving.jobs import Limits
from pipeline.serving.worker import Bounds
from tests.serving import examinations
from tests.serving.page_server import Page, free_port, running_page, wait_for
from tests.tracking import projects


def post(page: Page, *files: Path, path: str = "/translate", to: str = "ct", **options) -> httpx.Response:
    uploads = [("files", (file.name, file.read_bytes())) for file in files]
    return httpx.post(page.address + path, files=uploads, data={"to": to}, timeout=120, **options)


@pytest.fixture(scope="module")
def picture(heads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examinations.png(tmp_path_factory.mktemp("picture") / "mr.png", heads[1][0])


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Page]:
    """A page as it is by default; each takes a process that translates."""
    with running_page({"ct": str(models)}) as page:
        yield page


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_and_others_are_served(models: Path, picture: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.nii"
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((400, 400, 1200))
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as packed:
        header.write_to(packed)
        packed.write(bytes(4))
        for _ in range(1200):
            packed.write(bytes(400 * 400 * 8))
    assert not bomb.exists()
    with running_page({"ct": str(models)}, Limits(translation=Bounds(memory=2**29))) as page:
        answer = post(page, tmp_path / "bomb.nii.gz")
        assert answer.status_code == 422
        assert "no scan is packed that well" in answer.json()["error"]
        assert post(page, picture).status_code == 200


def test_a_translation_that_takes_too_long_is_ended(models: Path, picture: Path) -> None:
    with running_page({"ct": str(models)}, Limits(translation=Bounds(seconds=0.001))) as page:
        answer = post(page, picture)
        assert answer.status_code == 422
        assert "more than 0.001 s" in answer.json()["error"]


def test_a_translating_process_that_dies_is_started_again(served: Page, picture: Path) -> None:
    process = served.app.state.jobs.worker.process
    process.kill()
    process.join()  # on a busy machine it takes a moment to die
    assert post(served, picture).status_code == 200


@pytest.mark.parametrize(
    ("address", "form", "status", "said"),
    [
        ("translate", {"content": b"hello", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ("translate", {"data": {f"field{n}": "x" for n in range(30)}, "files": {"files": b"x"}}, 400, "at most|Maximum"),
        ("translate", {"files": {"files": b"x"}}, 422, "to nothing: this server translates to"),
        ("nowhere", {"content": b""}, 404, "Not Found"),
    ],
)
def test_every_refusal_has_one_line_under_error(served: Page, address: str, form: dict[str, object], status: int, said: str) -> None:
    answer = httpx.post(f"{served.address}/{address}", **form)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert re.search(said, answer.json()["error"])


def test_a_translating_process_that_dies_just_before_it_gets_an_upload_is_started_again(
    served: Page, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at while it lives, and is gone when the upload reaches it."""
    worker = served.app.state.jobs.worker
    first = worker.process
    monkeypatch.setattr(first, "is_alive", lambda: True)
    first.kill()
    first.join()
    assert post(served, picture).status_code == 200
    assert worker.process.pid != first.pid


def test_half_an_upload_ends_and_keeps_nobody_out(models: Path, picture: Path) -> None:
    with running_page({"ct": str(models)}, Limits(idle_seconds=1, uploads=2)) as page:
        head = (
            b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        lines = [socket.create_connection(("127.0.0.1", page.port), timeout=20) for _ in range(2)]
        for line in lines:
            line.sendall(head)
        wait_for(lambda: post(page, picture).status_code == 503)
        assert all(line.recv(100).startswith(b"HTTP/1.1 408") for line in lines)
        assert post(page, picture).status_code == 200


def test_a_request_whose_headers_never_end_is_closed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "HEADER_SECONDS", 0.5)
    with running_page({"ct": str(models)}) as page, socket.create_connection(("127.0.0.1", page.port), timeout=20) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert line.recv(100) == b""


def test_more_than_a_thousand_files_can_be_sent(models: Path, tmp_path: Path, heads) -> None:
    series = examinations.dicom_series(tmp_path / "series", np.repeat(heads[1][:1, ::4, ::4], 1100, axis=0), "MR")
    with running_page({"ct": str(models)}, Limits(translation=Bounds(slices=10))) as page:
        answer = post(page, *series)
        assert "1100 slices" in answer.json()["error"]  # all of them arrived


def test_a_result_stays_for_its_time_whatever_others_do(models: Path, picture: Path) -> None:
    with running_page({"ct": str(models)}, Limits(disk=200_000)) as page:
        first = post(page, picture, path="/api/translations").json()["id"]
        wait_for(lambda: httpx.get(f"{page.address}/api/translations/{first}").json()["state"] == "done")
        statuses = []
        for _ in range(8):
            answer = post(page, picture, path="/api/translations")
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                later = answer.json()["id"]
                wait_for(lambda: httpx.get(f"{page.address}/api/translations/{later}").json()["state"] == "done")  # noqa: B023
        assert statuses[-1] == 503  # the newcomer waits
        assert httpx.get(f"{page.address}/api/translations/{first}/download").status_code == 200


def test_results_go_when_their_time_is_over(models: Path, picture: Path) -> None:
    with running_page({"ct": str(models)}, Limits(keep_seconds=1)) as page:
        number = post(page, picture, path="/api/translations").json()["id"]
        wait_for(lambda: httpx.get(f"{page.address}/api/translations/{number}").status_code == 404)
        assert [file.name for file in page.app.state.jobs.folder.iterdir()] == ["lock"]


def test_a_script_leaves_nothing_on_the_server(served: Page, picture: Path) -> None:
    assert post(served, picture).status_code == 200
    wait_for(lambda: [file.name for file in served.app.state.jobs.folder.iterdir()] == ["lock"])


def test_a_full_disk_is_said(served: Page, picture: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(jobs.Jobs, "place", lambda *_: Path("/dev/full"))
    answer = post(served, picture)
    assert answer.status_code == 507
    assert "disk is full" in answer.json()["error"]
    assert caplog.messages[-1].endswith("no space left on the disk; free some and run again")
    monkeypatch.setattr(jobs.Jobs, "place", lambda *_: Path("/proc/none/00000.png"))
    answer = post(served, picture)
    assert answer.status_code == 503
    assert "tell who runs it" in answer.json()["error"]
    assert caplog.messages[-1].startswith("/proc/none/00000.png: ")


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    script = (
        "import sys, time; from pipeline.serving.jobs import working_folder\n"
        "with working_folder() as folder:\n"
        "    (folder.path / 'upload').write_text('x'); print(folder.path, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as server:
        left = Path(server.stdout.readline().strip())
        with jobs.working_folder():
            assert left.is_dir()  # a living server's
        server.kill()
    with jobs.working_folder():
        assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_browsers_are_told_to_run_nothing_else(served: Page) -> None:
    for path in ("/", "/api/models", "/nothing"):
        headers = httpx.get(served.address + path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"


def test_another_sites_page_cannot_send_files(served: Page, picture: Path) -> None:
    assert post(served, picture, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert post(served, picture, headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert post(served, picture, headers={"Origin": "http://[::1"}).status_code == 403
    assert post(served, picture, headers={"Origin": served.address}).status_code == 200


def test_half_of_several_files_is_no_upload(models: Path, picture: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The parser of forms leaves the file out that was cut off: a series would lose slices, a pair of files be read without the other."""
    part = b'--XX\r\nContent-Disposition: form-data; name="files"; filename="mr.png"\r\n\r\n' + picture.read_bytes()
    form = b'--XX\r\nContent-Disposition: form-data; name="to"\r\n\r\nct\r\n' + part + b"\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=XX"}
    with running_page({"ct": str(models)}) as page:
        assert httpx.post(f"{page.address}/translate", content=form + b"--XX--\r\n", headers=kind, timeout=60).status_code == 200
        cut = httpx.post(f"{page.address}/translate", content=form + part[:-9], headers=kind, timeout=60)
        assert (cut.status_code, "cut off" in cut.json()["error"]) == (400, True)
        with socket.create_connection(("127.0.0.1", page.port)) as gone:
            gone.sendall(b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=XX\r\n")
            gone.sendall(b"Content-Length: 99999\r\n\r\n" + form)
        assert httpx.head(page.address).status_code == 200  # as those ask who watch over servers
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_name_says_what_to_set(models: Path, served: Page) -> None:
    answer = httpx.get(served.address, headers={"Host": "ct.hospital.example"})
    assert answer.status_code == 421
    assert "--allow-host ct.hospital.example" in answer.json()["error"]
    with running_page({"ct": str(models)}, access=choose_access("127.0.0.1", ["CT.hospital.example"], None, None)) as page:
        assert httpx.get(page.address, headers={"Host": "ct.Hospital.example."}).status_code == 200


def test_other_machines_need_a_token() -> None:
    assert choose_access("::1", [], None, None).token is None  # this machine, by IPv6
    access = choose_access("0.0.0.0", [], None, None)
    assert access.token
    assert "*" not in access.hosts
    assert choose_access("0.0.0.0", [], None, "mine").token == "mine"
    assert choose_access("127.0.0.1", [], None, None).token is None


def test_a_token_opens_the_page_and_nothing_else_does(models: Path, picture: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ctmr.audit")
    with running_page({"ct": str(models)}, access=Access(token="secret", log_requests=True)) as page:
        assert httpx.get(page.address).status_code == 401
        assert httpx.get(f"{page.address}/?token=wrong").status_code == 401
        assert post(page, picture).status_code == 401
        assert post(page, picture, headers={"Authorization": "Bearer secret"}).status_code == 200
        with httpx.Client(base_url=page.address, follow_redirects=True) as browser:
            answer = browser.get("/?token=secret")
            assert answer.status_code == 200
            assert "secret" not in str(answer.url)
            assert browser.get("/api/models").status_code == 200
    wait_for(lambda: "POST /translate 200" in caplog.text)
    assert "secret" not in caplog.text
    assert "mr.png" not in caplog.text


def test_a_reverse_proxys_user_is_asked_for_and_logged(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ctmr.audit")
    with running_page({"ct": str(models)}, access=choose_access("127.0.0.1", [], "X-Remote-User", None)) as page:
        assert httpx.get(page.address).status_code == 401
        assert httpx.get(page.address, headers={"X-Remote-User": "alice"}).status_code == 200
    wait_for(lambda: "alice GET / 200" in caplog.text)


def test_a_rolled_back_champion_is_not_served_on(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.tracking import store

    folder = projects.make(tmp_path / "project", with_store=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    register_twice(folder)
    with running_page({"ct": None}) as page:
        assert post(page, picture).headers["X-Model"] == "mr-to-ct version 2"
        store.client(store.tracking_uri()).set_registered_model_alias("mr-to-ct", "champion", "1")
        assert post(page, picture).headers["X-Model"] == "mr-to-ct version 1"


def register_twice(folder: Path) -> None:
    """Versions 1 and 2 of both models; 2 is champion."""
    from pipeline.tracking import store
    from pipeline.tracking.registration import register

    for seed in (0, 1):
        projects.make_models(folder / "models", seed)
        register(params.load())
    for name in ("mr-to-ct", "ct-to-mr"):
        store.client(store.tracking_uri()).set_registered_model_alias(name, "champion", "2")


def test_the_command_stops_at_once_and_logs_nothing_of_a_patient(models: Path, heads, tmp_path: Path) -> None:
    port = free_port()
    series = examinations.dicom_series(tmp_path / "series", heads[1], "MR")
    for file in series:  # a value that the reading library warns of, quoting it
        content = file.read_bytes().replace(b"19700101", b"Jane-Doe")
        file.write_bytes(content)
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--port", str(port), "--model", str(models), "--host", "0.0.0.0"]
    (tmp_path / "uploads").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(projects.SOURCE), "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path / "uploads")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environment) as server:
        lines = [server.stdout.readline(), server.stdout.readline()]
        token = re.search(r"token=(\S+)", lines[0])[1]
        assert "warning" in lines[1]
        page = Page(f"http://127.0.0.1:{port}", port, None)
        wait_for(lambda: not _refused(port))
        assert post(page, *series, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            assert list((tmp_path / "uploads").iterdir())
            server.send_signal(signal.SIGHUP)  # its terminal is closed; handed on as SIGTERM
            began = time.monotonic()
            assert server.wait(30) in (0, -signal.SIGTERM)
            assert time.monotonic() - began < 15
        log = "".join(lines) + server.stdout.read()
    assert not list((tmp_path / "uploads").iterdir())
    assert "POST /translate 200" in log
    assert "Jane" not in log
    assert "Doe" not in log
    assert "Traceback" not in log


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
