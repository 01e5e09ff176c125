"""The Prefect flow by `ctmr retrain`, on a temporary server of its own; and the schedule's and the UI's commands."""

import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pipeline.processes import group
from tests.graph.prefect_server import Server, until
from tests.graph.projects import BIN, Project, copy_project
from tests.sources.kaggle_server import KaggleServer
from tests.tracking.servers import free_port


def test_a_failed_stage_fails_the_flow_with_its_own_last_lines(tmp_path: Path) -> None:
    project = copy_project(tmp_path, "smoke", "data.source=folder", "data.folder=nowhere")
    ended = project.run("ctmr", "retrain", expect=2)
    assert "nowhere" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert not (project.folder / "data/raw").exists()


@pytest.mark.kaggle_port
def test_kaggle_is_asked_again_while_it_is_away_but_not_once_it_refuses(tmp_path: Path, kaggle_server: KaggleServer) -> None:
    project = copy_project(tmp_path, "smoke", "data.source=kaggle")
    kaggle_server.status = 503

    def refuse_the_third() -> None:
        until(lambda: len(kaggle_server.requests) == 2, "a second attempt")
        kaggle_server.status = 404

    refuse = threading.Thread(target=refuse_the_third)
    refuse.start()
    ended = project.run(sys.executable, "-c", "from pipeline.flow import retrain; retrain(again_seconds=[2, 2, 2, 2])", expect=1)
    refuse.join()
    assert len(kaggle_server.requests) == 3
    assert "(404)" in ended.stdout


def test_a_wrong_schedule_is_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    ended = project.run("ctmr", "schedule", "--cron", "sometimes", expect=2)
    assert "error: --cron 'sometimes'" in ended.stdout.splitlines()[-1]


def test_a_schedule_needs_no_server_of_ones_own(tmp_path: Path) -> None:
    project = copy_project(tmp_path, "smoke", "data.source=folder", "data.folder=nowhere")
    port = free_port()
    command = [str(BIN / "ctmr"), "schedule", "--cron", "0 0 1 1 *", "--port", str(port)]
    server = Server(f"http://127.0.0.1:{port}/api")
    with group(command, project.folder, env={**project.environment(), "PREFECT_API_URL": ""}, capture=False):
        until(lambda: _planned(server), "runs that the schedule asks for", 120)
        run = server.start("project")
        until(lambda: server.state(run) == "Failed", "end of a run", 120)
        assert "nowhere" in server.ask("GET", f"/flow_runs/{run}")["state"]["message"]
        again = project.run(*command, expect=2)
        assert f"runs on port {port} already" in again.stdout
    assert not server.healthy()


def test_the_ui_opens_run_comparison_and_stops_whole(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path)
    port = free_port()
    process = subprocess.Popen(
        [str(BIN / "ctmr"), "ui", "--port", str(port)], cwd=project.folder, env=project.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        printed = next(line for line in process.stdout if "compare runs" in line)
        assert "workflowType=machine_learning" in printed
        page = f"http://127.0.0.1:{port}/"
        end = time.monotonic() + 90
        while not _answers(page):
            assert time.monotonic() < end, "no page"
            time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(timeout=30)
    assert not _answers(page)
    assert shutil.which("mlflow", path=str(BIN))


def _planned(server: Server) -> list[dict[str, Any]]:
    if not server.healthy():
        return []
    planned: list[dict[str, Any]] = server.ask("POST", "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})
    return planned


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as page:
            return b"MLflow" in page.read()
    except OSError:
        return False
