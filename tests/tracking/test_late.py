"""A store that is away when training starts: nothing of what was logged is lost once it answers, and a run without it ends all the same."""

import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import params
from pipeline.tracking import runs, store
from tests.tracking import projects, servers, stores

STEPS = 5


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Where nobody listens yet; a project is the working folder and is told to send its runs there."""
    monkeypatch.chdir(projects.make(tmp_path / "project"))
    found = servers.free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{found}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return found


def wait_for(condition, seconds: float = 30) -> None:
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"not after {seconds:g} s")


def logged(run: runs.Run, first: int) -> None:
    for step in range(first, first + STEPS):
        run.log_metrics({"train/cycle": float(step)}, step)


def test_what_waited_is_sent_when_the_server_comes_up(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    clock = time.monotonic
    run = runs.start_run(params.load(), resume=None)
    assert run.id.startswith("unsent-")
    assert "Training goes on" in capsys.readouterr().err
    run.set_tags({"precision": "float32"})
    picture = np.full((16, 16), 40, np.uint8)
    run.log_image(picture, "samples", step=2)
    picture[:] = 0  # training draws into the same array again
    logged(run, 0)
    (artifacts := tmp_path / "artifacts").mkdir()
    with servers.mlflow_server(stores.make_database(tmp_path / "late.db", stores.SERVED), artifacts, port) as address:
        logged(run, STEPS)
        assert run.id.startswith("unsent-")  # it is not tried again at every step
        monkeypatch.setattr(time, "monotonic", lambda: clock() + 2 * runs.AGAIN)
        logged(run, 2 * STEPS)
        (written := Path("reports/train")).mkdir(parents=True)
        (written / "curves.csv").write_text("images,train/cycle\n")
        run.log_files(written, "train")
        run.finish()
        client = store.client(address)
        history = client.get_metric_history(run.id, "train/cycle")
        assert [point.value for point in sorted(history, key=lambda point: point.step)] == [float(step) for step in range(3 * STEPS)]
        assert client.get_run(run.id).info.status == "FINISHED"
        assert client.get_run(run.id).data.tags["precision"] == "float32"
        assert [file.path for file in client.list_artifacts(run.id, "train")] == ["train/curves.csv"]
        wait_for(lambda: client.list_artifacts(run.id, "images"))  # MLflow's queue of artifacts ends on its own
    assert "everything so far was sent" in capsys.readouterr().err


def test_away_to_the_end_is_said_and_nothing_fails(port: int, capsys) -> None:
    run = runs.start_run(params.load(), resume=None)
    logged(run, 0)
    run.log_files(Path("presets"))
    run.finish()
    assert "MLflow was away to the end" in capsys.readouterr().err
