"""The Prefect flow by `ctmr retrain`, on a temporary server of its own; and the UI's command."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from pipeline import cli
from pipeline.errors import UserError
from pipeline.retraining.flow import parse_minutes
from tests.graph.prefect_server import until
from tests.graph.projects import BIN, SOURCE, Project, copy_project
from tests.sources.kaggle_server import KaggleServer
from tests.tracking.servers import free_port


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train", "--timeout train=: expected STAGE=MINUTES, such as train=600"),
        ("trian=5", "timeout_minutes: trian: no such stage; the stages are look, download,"),
        ("train=0", "timeout_minutes: train: 0: expected minutes above 0"),
        ("train=inf", "timeout_minutes: train: inf: expected minutes above 0, at most a year of them"),
    ],
)
def test_a_wrong_timeout_is_said_in_one_line(given: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        parse_minutes([given], SOURCE)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("retrain", "--timeout", "train"), "--timeout train=: expected STAGE=MINUTES, such as train=600"),
        (
            ("retrain", "--set", "train.imagse=5"),
            "{root}/params.yaml: train.imagse is not a known key; ctmr params prints",
        ),
        (("schedule", "--set", "train.images=few"), "{root}/params.yaml with these settings: train.images = 'few': input should be"),
        (("retrain", "--set", "train.images"), "--set train.images: expected KEY=VALUE, such as train.images=500"),
        (("schedule", "--notify", "https://"), "--notify https://: expected an http(s) address, or TYPE/NAME of a Prefect block"),
        (("retrain", "--notify", "http://chat:port/x"), "--notify http://chat:port/x: expected an http(s) address"),
        (("retrain", "--notify", "ops@example.org"), "--notify ops@example.org: expected an http(s) address"),
        (("schedule", "--cron", "sometimes"), "--cron 'sometimes': not a cron line; expected minute hour day month weekday"),
    ],
)
def test_with_a_wrong_option_nothing_is_started(
    command: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: a new one imports for seconds before it looks."""
    monkeypatch.chdir(SOURCE)
    monkeypatch.setattr(sys, "argv", ["ctmr", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {said.format(root=SOURCE)}")
    assert printed.count("\n") == 1


PATIENT = """
from pathlib import Path
from pipeline.errors import user_errors
from pipeline.retraining.flow import retrain_here
with user_errors():
    retrain_here(Path.cwd(), again_seconds=[2, 2, 2, 2])
"""


@pytest.mark.kaggle_port
def test_kaggle_is_asked_again_while_it_is_away_but_not_once_it_refuses(tmp_path: Path, kaggle_server: KaggleServer) -> None:
    project = copy_project(tmp_path, "smoke", "data.source=kaggle")
    kaggle_server.status = 503

    def refuse_the_third() -> None:
        until(lambda: len(kaggle_server.requests) == 2, "a second attempt")
        kaggle_server.status = 404

    refuse = threading.Thread(target=refuse_the_third)
    refuse.start()
    printed = project.run(sys.executable, "-c", PATIENT, expect=2).stdout
    refuse.join()
    assert len(kaggle_server.requests) == 3
    assert "(404)" in printed.splitlines()[-1]
    assert "Traceback" not in printed


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


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as page:
            return b"MLflow" in page.read()
    except OSError:
        return False


LONG = ("train.images=2000", "train.checkpoint_seconds=0.5", "preprocess.teacher_pairs=0", "train.teacher.images=0")


@pytest.mark.timeout(900)
def test_however_a_retraining_is_stopped_it_ends_in_one_line_with_a_checkpoint(tmp_path: Path) -> None:
    """By Ctrl-C; the terminal that is closed on top of it, or SIGTERM, ends it no sooner: one handler has all three."""
    project, log = copy_project(tmp_path, "smoke", *LONG), tmp_path / "printed"
    project.prepare_slices()
    with log.open("wb") as file:
        env = {**project.environment(), "PREFECT_API_URL": ""}
        process = subprocess.Popen([BIN / "ctmr", "retrain"], cwd=project.folder, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        until(lambda: re.search(r"step \d+ of \d+, ", log.read_text()), "training", 600)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.killpg(process.pid, number)  # as the terminal does it
            time.sleep(0.5)
        assert process.wait(60) == 2
    finally:
        process.kill()
        process.wait()
    printed = log.read_text()
    assert printed.splitlines()[-1].startswith("error: stopped; training left a checkpoint")
    assert "Traceback" not in printed
    assert list((project.folder / "checkpoints").glob("*/*.pt"))
    with closing(sqlite3.connect(project.folder / "mlruns/mlflow.db")) as store:
        assert {status for (status,) in store.execute("SELECT status FROM runs")} == {"KILLED"}
    until(lambda: not [p for p in psutil.process_iter() if _belongs(p, project)], "the end of all", 60)


def _belongs(process: psutil.Process, project: Project) -> bool:
    try:
        return process.environ().get("PREFECT_HOME") == project.env["PREFECT_HOME"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
