"""The Prefect flow by `ctmr retrain`, on a temporary server of its own; and the schedule's and the UI's commands."""

import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.graph.projects import BIN, Project, copy_project


def test_a_failed_stage_fails_the_flow_with_its_own_last_lines(tmp_path: Path) -> None:
    project = copy_project(tmp_path, "smoke", "data.source=folder", "data.folder=nowhere")
    ended = project.run("ctmr", "retrain", expect=2)
    assert "nowhere" in ended.stdout
    assert "Traceback" not in ended.stdout.splitlines()[-1]
    assert not (project.folder / "data/raw").exists()


def test_a_wrong_schedule_is_one_line(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    ended = project.run("ctmr", "schedule", "--cron", "sometimes", expect=2)
    assert "error: --cron 'sometimes'" in ended.stdout.splitlines()[-1]


def test_the_ui_opens_run_comparison_and_stops_whole(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as page:
            return b"MLflow" in page.read()
    except OSError:
        return False
