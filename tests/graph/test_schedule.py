"""`make schedule` as one types it: a server of its own, runs that come by themselves, and an end by Ctrl-C that leaves nothing behind."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.retraining.server import project_name
from tests.graph.prefect_server import Server, until
from tests.graph.projects import BIN, Project, copy_project
from tests.tracking.servers import free_port

LONG = ("train.images=2000", "preprocess.teacher_pairs=0", "train.teacher.images=0")


@pytest.mark.timeout(2400)
def test_runs_come_by_themselves_and_ctrl_c_stops_all(tmp_path: Path) -> None:
    """The first fails, for want of its data; the next, which comes by itself as well, trains until all is stopped.

    How a run ends well: tests/graph/test_retraining.py.
    """
    project = copy_project(tmp_path, "smoke", *LONG)
    project.prepare_slices()
    project.settings(None, "data.source=folder", "data.folder=nowhere")
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}/api")
    with _make_schedule(project, port, tmp_path / "printed") as process:
        until(lambda: server.healthy() and "Failed" in _states(server), "the end of a run by schedule", 1200)
        project.settings(None, "data.source=phantom", "data.folder=null")
        (deployment,) = server.ask("POST", "/deployments/filter", {})
        assert deployment["name"] == f"{project_name(project.folder)}-schedule"
        second = project.run("ctmr", "schedule", "--port", str(port), expect=2)
        assert f"runs on port {port} already" in second.stdout
        until(lambda: any(_trains(server, run) for run in server.runs()), "training by the next run", 600)
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C goes to all that the terminal's job has started
        process.wait(60)
    assert not server.healthy()
    until(lambda: _left(project) == [], "the end of all that was started", 60)
    printed = (tmp_path / "printed").read_text()
    assert "Traceback" not in printed
    assert "the schedule is stopped" in printed
    with closing(sqlite3.connect(tmp_path / "prefect/prefect.db")) as database:
        assert database.execute("SELECT active FROM deployment_schedule").fetchall() == [(1,)]
        assert database.execute("SELECT paused FROM deployment").fetchall() == [(0,)]


@contextmanager
def _make_schedule(project: Project, port: int, printed: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`make schedule` in a project that `make setup` is done with, every minute, as the first of a job of its own."""
    venv = project.folder / ".venv"
    venv.mkdir()
    (venv / "bin").symlink_to(BIN)
    (venv / ".path").write_text(f"{project.folder}\n")
    (venv / ".installed").touch()
    command, env = ["make", "schedule", "CRON=* * * * *", f"PORT={port}"], {**project.environment(), "PREFECT_API_URL": ""}
    with printed.open("wb") as file:
        process = subprocess.Popen(command, cwd=project.folder, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
    finally:
        for pid in _left(project):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _states(server: Server) -> list[str]:
    return [run["state_name"] for run in server.runs()]


def _trains(server: Server, run: dict[str, Any]) -> bool:
    return run["state_name"] == "Running" and any(line.startswith("step ") for line in server.logs(run["id"]))


def _left(project: Project) -> list[int]:
    """Processes that were started with the project's environment, this test's own commands aside."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME") == project.env["PREFECT_HOME"] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
