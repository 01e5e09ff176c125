"""`ctmr models --register-box`: the model in the box enters the registry once, and is what a first model of one's own must beat."""

import json
from pathlib import Path

import pytest

from pipeline.domain import DIRECTIONS
from pipeline.errors import UserError
from pipeline.params import flatten, read_yaml
from pipeline.tracking import models_command, registry, store
from pipeline.tracking.box_registration import register_box
from tests.tracking import projects
from tests.tracking.stores import make_store


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the box, with the params, commit and card that belong to it; the working folder is a project with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = projects.make(tmp_path / "box", seed=5)
    models = folder / "models"
    (models / "params.yaml").write_bytes((folder / "params.yaml").read_bytes())
    (models / "origin.json").write_text(json.dumps({"commit": "c0ffee", "steps": 3000}))
    (models / "MODEL_CARD.md").write_text("# The card")
    monkeypatch.chdir(projects.make(tmp_path / "project"))
    return models


def test_it_is_registered_once_and_crowned_where_there_is_no_champion(box: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_store(Path.cwd())
    first, again = register_box(box), register_box(box)
    assert [str(version) for version in first] == [
        f"{name} version 1 is the model in the box; it is champion" for name in ("ct-to-mr", "mr-to-ct")
    ]
    assert [str(version) for version in again] == [
        f"{name} version 1 is the model in the box, as before; it is champion" for name in ("ct-to-mr", "mr-to-ct")
    ]
    uri, runs = store.tracking_uri(), set()
    for direction in DIRECTIONS:
        (version,) = registry.versions(uri, direction.model_name)
        assert (version.description, version.tags["git.commit"]) == ("# The card", "c0ffee")
        assert "simulated heads alone" in version.tags["origin"]
        run = store.client(uri).get_run(version.run_id)
        assert run.data.params == {key: str(value) for key, value in flatten(read_yaml(box / "params.yaml")).items()}
        runs.add(version.run_id)
        assert registry.fetch(direction.model_name).digest == registry.weights_digest(direction, box)
    assert len(runs) == 1  # so that the gate finds the generator that leads back
    models_command.show_models()
    assert "not judged" in capsys.readouterr().out


def test_without_weights_it_says_so(box: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no model in the box"):
        register_box(tmp_path / "nothing")
    assert not Path("mlruns").exists()
