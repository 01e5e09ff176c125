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
