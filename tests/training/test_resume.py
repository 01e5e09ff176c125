"""A training killed at random moments ends with the same bytes as one that nothing disturbed."""

import random
import re
import signal
import sqlite3
import time
from pathlib import Path

import pytest
import torch

from pipeline.training import checkpoint
from tests.training import jobs

SHORT = {"images": 64, "teacher": jobs.PARAMS.train.teacher.model_dump() | {"images": 16}, "checkpoint_seconds": 0.01}
OUTPUTS = ("models/ct_to_mr.safetensors", "models/mr_to_ct.safetensors", "models/model.json", "reports/train/curves.csv")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = jobs.make(tmp_path_factory.mktemp("undisturbed"), **SHORT)
    jobs.finish(folder, **jobs.AWAY)
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def wait_for(pattern: str, folder: Path, more_than: int, seconds: float = 120) -> None:
    """Wait until checkpoints beyond step `more_than` exist."""
    end = time.monotonic() + seconds
    while not any(int(file.name[:9]) > more_than for file in folder.glob(pattern)):
        assert time.monotonic() < end, "no new checkpoint"
        time.sleep(0.002)


def last_step(folder: Path) -> int:
    return max((int(file.name[:9]) for file in folder.glob("checkpoints/*/0*.pt")), default=0)


@pytest.mark.timeout(600)
def test_three_kills_change_nothing(undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    """What a kill does to a run in MLflow: tests/tracking/test_runs.py. Hundreds of kills: benchmarks/kill_drill.py."""
    folder, moments = jobs.make(tmp_path / "job", **SHORT), random.Random(0)
    for _ in range(3):
        before = last_step(folder)
        process = jobs.start(folder, **jobs.AWAY)
        wait_for("checkpoints/*/0*.pt", folder, before + moments.randint(0, 3))
        time.sleep(moments.random() * 0.01)
        process.kill()
        process.communicate()
        assert not (folder / "models").exists(), "killed too late: the test needs a longer training"
    assert "going on from step" in jobs.finish(folder, **jobs.AWAY)
    assert [name for name in OUTPUTS if (folder / name).read_bytes() != undisturbed[name]] == []


def test_stopped_by_hand_it_saves_says_so_in_one_line_and_ends_its_run(tmp_path: Path) -> None:
    """By a closed terminal, with other signals on top; each signal alone: tests/test_stage.py."""
    folder = jobs.make(tmp_path / "job", checkpoint_seconds=1000, images=800)
    process = jobs.start(folder)
    assert process.stdout is not None
    assert any("step" in line for line in process.stdout)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    printed, _ = process.communicate(timeout=200)  # a busy machine takes its time to save
    assert process.returncode == 2, printed
    errors = [line for line in printed.splitlines() if not line.startswith("step ")]
    assert len(errors) == 1, printed
    assert re.fullmatch(r"error: training stopped after \d+ of \d+ steps; dvc repro goes on from there", errors[0])
    assert last_step(folder) > 0
    with sqlite3.connect(folder / "mlruns/mlflow.db") as store:
        assert store.execute("select status from runs").fetchall() == [("KILLED",)]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2, 3, 4):
        checkpoint.save_checkpoint(tmp_path, step, {"step": step, "weights": torch.ones(3)})
    assert len(list(tmp_path.glob("*.pt"))) == 3
    newest = max(tmp_path.glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1])
    state = checkpoint.parse_checkpoint(checkpoint.read_latest_checkpoint(tmp_path))
    assert state["step"] == 3
    assert "damaged checkpoint passed over" in capsys.readouterr().err


def test_no_checkpoint_is_no_fault(tmp_path: Path) -> None:
    assert checkpoint.read_latest_checkpoint(tmp_path) == b""
