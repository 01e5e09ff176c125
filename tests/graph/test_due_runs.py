"""A schedule goes on however long its Prefect server is away, and does not make up for all that became due meanwhile."""

import errno
import gc
import json
import sys
import threading
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from uuid import UUID, uuid4

import httpx
import prefect
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pipeline.errors import UserError
from pipeline.retraining import schedule, tell


class Prefect(BaseHTTPRequestHandler):
    """What a schedule asks of a Prefect server. `due`: runs that wait, by when they were due; `skipped`: what was said of others."""

    due: ClassVar[dict[UUID, datetime]] = {}
    skipped: ClassVar[dict[UUID, str]] = {}

    def do_GET(self) -> None:
        absent = any(part in self.path for part in ("csrf", "block_documents"))
        self._answer({"detail": "none"} if absent else prefect.__version__, 404 if absent else 200)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/deployments/get_scheduled_flow_runs"):
            runs = {str(run): due.isoformat() for run, due in self.due.items()}
            same = {"name": "r", "work_pool_id": None}
            self._answer([same | {"id": run, "flow_id": run, "expected_start_time": due} for run, due in runs.items()])
            return
        run = UUID(self.path.split("/")[-2])
        assert asked["state"]["type"] == "CANCELLED"
        self.skipped[run] = asked["state"]["message"]
        self.due.pop(run)
        self._answer({"state": asked["state"], "status": "ACCEPT", "details": {"type": "accept_details"}})

    def _answer(self, content: object, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


def test_a_log_that_takes_no_line_and_a_run_that_cannot_start_end_no_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    monkeypatch.setattr(schedule, "POLL_SECONDS", 0.01)
    answers = [httpx.ConnectError("away"), uuid4(), uuid4()]
    tries: list[UUID] = []

    def next_due(*_: object) -> UUID:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def execute(run: UUID) -> None:
        tries.append(run)
        if answers:
            raise OSError(errno.ENOMEM, "no memory")
        raise Stopped

    monkeypatch.setattr(schedule, "get_client", lambda **_: nullcontext())
    monkeypatch.setattr(schedule, "_next_due", next_due)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(Stopped):
            schedule.start_due_runs(uuid4(), execute)
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert len(tries) == 2


class Stopped(Exception):
    """As Ctrl-C would."""


def serve(port: int = 0) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_a_schedule_outlives_its_server_and_skips_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "POLL_SECONDS", 0.1)
    now = datetime.now(UTC)
    first, missed, last_missed, fresh = (uuid4() for _ in range(4))
    Prefect.due = {first: now}
    servers = [serve()]
    port = servers[0].server_port
    began: list[UUID] = []
    said: list[str] = []

    def say(line: str) -> None:
        """What the schedule says; once it has seen that the server is away, that one comes back."""
        said.append(line.split("(")[0].strip())
        if len(said) == 1:
            Prefect.due = {missed: now - timedelta(minutes=9), last_missed: now - timedelta(minutes=5), fresh: now - timedelta(seconds=1)}
            servers.append(serve(port))

    def execute(run: UUID) -> None:
        began.append(run)
        Prefect.due.pop(run)
        if run == first:
            servers[0].shutdown()
            servers[0].server_close()
        else:
            raise Stopped

    monkeypatch.setattr(schedule, "say", say)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}), pytest.raises(Stopped):
        schedule.start_due_runs(uuid4(), execute)
    servers[-1].shutdown()
    servers[-1].server_close()
    assert began == [first, fresh]
    assert set(Prefect.skipped) == {missed, last_missed}
    assert "when nobody was there to start it" in Prefect.skipped[missed]
    assert said == ["the Prefect server does not answer", "the Prefect server is back"]


def test_a_block_that_the_server_does_not_have_is_said_at_once() -> None:
    """At the end of a retraining, hours later, it would be one warning in a log that nobody reads."""
    server = serve()
    address = f"http://127.0.0.1:{server.server_port}/api"
    said = r"^--notify slack-webhook/none: expected a Prefect block that notifies; the Prefect server has none of this name; "
    with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}), pytest.raises(UserError, match=said):
        tell.check_blocks(["http://127.0.0.1:9/is-not-asked", "slack-webhook/none"])
    server.shutdown()
    server.server_close()


def test_garbage_is_looked_for_as_python_does_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`ctmr` starts with high thresholds, for its imports; a schedule that kept them grew by 30 MiB in half an hour."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 50)
    try:
        with pytest.raises(UserError):
            schedule.serve_schedule(tmp_path, "0 3 * * 1", "UTC", 0)
        assert gc.get_threshold() == (100_000, 50, 50)
        monkeypatch.setattr(schedule.workspace, "check_repository", lambda _: None)
        monkeypatch.setattr(schedule.own_server, "prefect_server", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        monkeypatch.setattr(schedule.signal, "signal", lambda *_: None)
        schedule.serve_schedule(tmp_path, "0 3 * * 1", "UTC", 0)
        assert gc.get_threshold() == (700, 10, 10)
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
