"""What prune takes out of the MLflow store is gone, files too; the rest stays as it is. In a file, and on a server."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import params, paths
from pipeline.serving.translator import Translator
from pipeline.tracking import cleanup, registry, store
from pipeline.tracking.registration import register
from pipeline.tracking.registry import MODEL_NAMES, WEIGHTS
from tests.tracking import projects, servers, stores

ALL = params.load(projects.SOURCE / paths.PARAMS)


@dataclass
class Place:
    """A store in which a good model, a bad one and another bad one were registered; `artifacts` is the folder with all files."""

    artifacts: Path

    def files(self) -> dict[str, int]:
        """Name and bytes of each file."""
        files = (file for file in self.artifacts.rglob("*") if file.is_file())
        return {file.relative_to(self.artifacts).as_posix(): file.stat().st_size for file in files}


@pytest.fixture(params=["file", "server"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = projects.make(tmp_path / "project", with_store=request.param == "file")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    artifacts = folder / "mlruns/artifacts"
    with ExitStack() as running:
        if request.param == "server":
            artifacts = tmp_path / "artifacts"
            artifacts.mkdir()
            database = stores.make_database(tmp_path / "mlflow.db", stores.SERVED)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", running.enter_context(servers.mlflow_server(database, artifacts)))
        register(ALL)
        for seed in (1, 2):
            projects.make_models(paths.MODELS, seed)
            projects.write_metrics(folder, projects.bad())
            register(ALL)
        yield Place(artifacts)


def test_versions_without_an_alias_go_with_their_runs_and_files(place: Place) -> None:
    """First one model of a run, which stays for the other; then the other, and with it the run."""
    uri = store.tracking_uri()
    client = store.client(uri)
    first, second, third = (registry.version(uri, f"ct-to-mr/{number}") for number in (1, 2, 3))
    assert cleanup.aliased_weights() >= {first.tags[WEIGHTS], third.tags[WEIGHTS]}  # the champion and the challenger
    digests = {registry.version(uri, f"{name}/{number}").tags[WEIGHTS] for name in MODEL_NAMES for number in (1, 2)}
    unneeded = cleanup.unneeded_versions(digests)
    assert {(version.name, str(version.version)) for version in unneeded} == {(name, "2") for name in MODEL_NAMES}
    before, size = place.files(), cleanup.artifact_bytes(unneeded)

    cleanup.remove_versions(cleanup.unneeded_versions({second.tags[WEIGHTS]}))
    assert client.get_run(second.run_id).info.lifecycle_stage == "active"
    gone = before.keys() - place.files().keys()
    assert gone
    assert all(registry.logged_model(second) in name for name in gone)
    assert Translator.from_registry("mr-to-ct/2").label.version == "2"

    cleanup.remove_versions(cleanup.unneeded_versions(digests))
    assert sorted(str(version.version) for version in registry.versions(uri, "ct-to-mr")) == ["1", "3"]
    assert client.get_run(second.run_id).info.lifecycle_stage == "deleted"
    gone = before.keys() - place.files().keys()
    assert len([name for name in gone if name.endswith(".safetensors")]) == 2
    assert size == sum(before[name] for name in gone)
    assert not [name for name in place.files() if second.run_id in name or registry.logged_model(second) in name]
    for kept in (first, third):
        assert client.get_run(kept.run_id).info.lifecycle_stage == "active"
        assert Translator.from_registry(f"ct-to-mr/{kept.version}").label.digest == kept.tags[WEIGHTS]
