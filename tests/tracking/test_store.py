"""The MLflow store lies in the project's folder, whatever that is called."""

import shutil
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.tracking import store

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["run #2", "what? really", "100% & more", "a+b=c"])
def test_a_run_and_its_files_are_found_again(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / file, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = store.tracking_uri()
    assert store.database_file(uri) == folder / paths.MLRUNS / "mlflow.db"
    client = store.client(uri)
    run = client.create_run(store.experiment_id(uri))
    client.log_artifact(run.info.run_id, str(folder / "params.yaml"))
    assert (
        Path(client.download_artifacts(run.info.run_id, "params.yaml", str(tmp_path))).read_text() == (folder / "params.yaml").read_text()
    )
    assert sorted(file.name for file in folder.iterdir()) == ["dvc.yaml", "mlruns", "params.yaml"]
    assert [file.name for file in tmp_path.iterdir() if file.name != "params.yaml"] == [name]


def test_a_relative_store_is_the_project_s_wherever_a_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As MLflow's own pages name it. A retraining works in a copy of the project, and its models went into a store in there."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    copy = project / ".dvc/tmp/retrain/workspace"
    for folder in (project, copy, project / "docs", elsewhere):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (project, copy):
        (folder / "dvc.yaml").touch()
        (folder / "params.yaml").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    for folder in (project, project / "docs", copy):
        monkeypatch.chdir(folder)
        assert store.database_file(store.tracking_uri()) == project / "mlflow.db"
    monkeypatch.chdir(elsewhere)
    assert store.tracking_uri() == "sqlite:///mlflow.db"
    for named in ("http://127.0.0.1:5000", "sqlite:////data/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
        monkeypatch.chdir(copy)
        assert store.tracking_uri() == named
