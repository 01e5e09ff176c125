"""Runs: what one training leaves in MLflow, taken up again, from another machine, and by several processes at once."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.tracking import doctor, evaluation_log, facts, runs, store
from pipeline.tracking.runs import Run, attach, begin, write_run_json
from tests.tracking import projects, stores
from tests.tracking.test_late import wait_for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A project with prepared slices and an empty store, as working folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = projects.make(tmp_path_factory.mktemp("runs") / "project", with_store=True)
        paths_in = folder / paths.SLICES
        paths_in.mkdir(parents=True)
        np.save(paths_in / "train_ct.npy", np.zeros((3, 8, 8), np.uint8))
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """A finished run with curves, images, a table, and models/run.json that names it."""
    run = begin(params.load())
    for step in range(0, 3000, 2):
        run.log_metrics({"train/cycle": 1 / (step + 1), "train/rate": float("nan")}, step)
    for step in (0, 100):
        run.log_image(np.full((16, 16), step, np.uint8), "samples", step)
    (folder / "tables").mkdir()
    (folder / "tables/per_slice.csv").write_text("slice,mae\na,0.1\n")
    run.log_files(folder / "tables", "tables")
    write_run_json(run)
    run.finish()
    return run


def test_everything_arrives(run: Run) -> None:
    client = store.client(run.uri)
    found = client.get_run(run.id)
    assert found.info.status == "FINISHED"
    assert len(client.get_metric_history(run.id, "train/cycle")) == 1500
    wait_for(lambda: {Path(file.path).suffix for file in client.list_artifacts(run.id, "images")} == {".png", ".webp"})
    assert [file.path for file in client.list_artifacts(run.id, "tables")] == ["tables/per_slice.csv"]


def test_a_run_says_what_it_was(run: Run) -> None:
    found = store.client(run.uri).get_run(run.id)
    assert found.data.params["train.batch_size"] == "4"
    assert found.data.params["register.promotion"] == "auto"
    assert found.data.tags["device"].startswith("cpu")
    (data,) = found.inputs.dataset_inputs
    assert data.dataset.digest == facts.data_digest()
    assert "train_ct" in data.dataset.profile
    assert "phantom 64px, resnet_6 × 8, 32 images, seed 0" in run.name
    assert "workflowType=machine_learning" in store.comparison_address(run.experiment)
    experiment = store.client(run.uri).get_experiment(run.experiment)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("none", "no git repository"), ("empty", "no commit yet"), ("foreign", "the repository belongs to another user"),
        ("no git", "git is not installed"), ("sound", ""),
    ],
)  # fmt: skip
def test_without_a_commit_a_run_says_why(what: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = facts.flatten(params.load(projects.SOURCE / paths.PARAMS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if what != "none":
        subprocess.run(["git", "init", "-q"], check=True)
    if what in ("foreign", "sound"):
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "start"], check=True)
    if what == "foreign":
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    if what == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    tags = facts.tags(knobs)
    assert tags["git.commit"] == f"none: {why}" if why else len(tags["git.commit"]) == 40
    assert ("mlflow.source.git.commit" in tags) == (why == "")


def test_a_preset_is_recognised() -> None:
    knobs = facts.flatten(params.load(projects.SOURCE / paths.PARAMS))
    assert isinstance(facts.preset_of(knobs), str)
    assert facts.preset_of({"data.source": "folder"}) == ""


def test_names_of_experiments_lead(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from datetime import datetime

    monkeypatch.setenv("DVC_EXP_NAME", "gentle-teacher")
    assert facts.run_name(facts.flatten(params.load()), "demo", datetime(2026, 1, 2)).startswith("gentle-teacher: ")


def test_training_goes_on_in_its_run_and_evaluation_joins_it(run: Run) -> None:
    again = begin(params.load(), resume=run.id)
    assert again.id == run.id
    again.finish()
    assert attach().id == run.id


def test_on_another_machine_a_new_run_names_the_original(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.make_database(tmp_path / "other.db"))
    there = attach()
    assert there.id != run.id
    tags = store.client(there.uri).get_run(there.id).data.tags
    assert tags["original_run"] == run.id
    assert tags["original_name"] == run.name
    assert attach().id == there.id


def test_a_store_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9.*start it, or set MLFLOW_TRACKING_URI"):
        begin(params.load())


def test_what_the_store_did_not_take_is_sent_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    run = begin(params.load())
    with monkeypatch.context() as away:

        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("away")

        away.setattr(SqlAlchemyStore, "_log_metrics", refuse)
        away.setattr(runs, "TOGETHER", 0.0)
        for step in range(10):
            run.log_metrics({"loss": float(step)}, step)
        time.sleep(1)
    paths.TRAIN_REPORT.mkdir(parents=True)
    (paths.TRAIN_REPORT / "curves.csv").write_text("images,loss\n" + "".join(f"{step},{step}\n" for step in range(10)))
    run.finish()
    assert [point.value for point in store.client(run.uri).get_metric_history(run.id, "loss")] == [float(step) for step in range(10)]
    runs.send_curves(run)  # once more sends nothing twice
    assert len(store.client(run.uri).get_metric_history(run.id, "loss")) == 10


def test_a_run_of_a_killed_process_is_ended_by_the_next_start(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.make_database(tmp_path / "stale.db"))
    script = """
import os, signal
from pipeline import params
from pipeline.tracking import runs
run = runs.start_run(params.load())
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    own = runs.start_run(params.load())
    client = store.client(own.uri)
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(own.id).info.status == "RUNNING"
    runs.start_run(params.load())
    assert client.get_run(own.id).info.status == "RUNNING"  # its process lives


def test_scores_are_named_by_what_differs_first() -> None:
    """Only what one compares runs by is a chart: not `nmi`, which stands in metrics.json with some forty others."""
    figures = {
        "test": {"ct_to_mr": {"mae": 0.1, "mae_low": 0.05, "nmi": 1.2, "nmi_low": 1.1, "slices": 9}},
        "lesions": {"ct_to_mr": {"contrast": 0.5, "survival": None, "by_kind": {}}},
    }
    assert evaluation_log.chart_names(figures) == {"mae/ct_to_mr": 0.1, "interval/mae_low_ct_to_mr": 0.05, "lesion_contrast/ct_to_mr": 0.5}


def test_an_evaluation_goes_into_the_run_of_its_training(run: Run, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    evaluation_log.log_evaluation({"test": {"mr_to_ct": {"mae": 0.2}}}, tmp_path)
    client = store.client(run.uri)
    assert client.get_run(run.id).data.metrics["mae/mr_to_ct"] == 0.2
    assert [file.path for file in client.list_artifacts(run.id, "evaluate")] == ["evaluate/metrics.json"]


def test_several_processes_write_at_once_even_into_a_new_store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    script = """
from pipeline import params
from pipeline.tracking import runs
run = runs.begin(params.load())
runs.TOGETHER = 0
for step in range(200):
    run.log_metrics({"loss": float(step)}, step)
run.finish()
print(run.id)
"""
    writers = [subprocess.Popen([sys.executable, "-c", script], cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ids = [writer.communicate(timeout=120)[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    client = store.client(store.tracking_uri())
    assert [len(client.get_metric_history(number, "loss")) for number in ids] == [200, 200]
    assert len({client.get_run(number).info.experiment_id for number in ids}) == 1


def test_a_moved_repository_is_mended(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    shutil.rmtree(moved / paths.MODELS)
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for its children
    assert list(doctor.examine_store()) == []
    (examined,) = doctor.examine_rest()
    assert "made in another place" in examined.finding.problem
    with pytest.raises(UserError, match="ctmr doctor --fix"):
        begin(params.load())
    assert doctor.report(fix=True)
    uri = store.tracking_uri()
    assert store.client(uri).get_run(run.id).info.artifact_uri.startswith(moved.as_uri())
    assert store.client(uri).list_artifacts(run.id, "tables")


def test_run_json_that_is_absent_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro train"):
        attach(tmp_path / "run.json")
    (tmp_path / "run.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="damaged"):
        attach(tmp_path / "run.json")
