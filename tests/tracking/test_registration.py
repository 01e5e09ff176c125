"""Registering a folder's models, in SQLite and on a server with PostgreSQL: versions, refusals, rollback, loading without this project."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import mlflow
import numpy as np
import pytest

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.tracking import lookup, promotion, registry, store
from pipeline.tracking.registration import register
from tests.tracking import projects, servers

ALL = params.load(projects.SOURCE / paths.PARAMS)
RULES, COMPARISON = ALL.register_, ALL.evaluate


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A project in which a good model was registered, then a bad one."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        folder = projects.make(tmp_path_factory.mktemp(request.param) / "project")
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if request.param == "postgresql":
            if servers.POSTGRES is None:
                pytest.skip("PostgreSQL absent: apt-get install postgresql")
            database = running.enter_context(servers.postgresql())
            artifacts = tmp_path_factory.mktemp("artifacts")
            patch.setenv("MLFLOW_TRACKING_URI", running.enter_context(servers.mlflow_server(database, artifacts)))
        decisions = [register(RULES, COMPARISON)]
        first = json.loads(paths.VERSIONS_JSON.read_text())
        projects.make_models(paths.MODELS, seed=1)
        projects.write_metrics(folder, projects.bad())
        decisions.append(register(RULES, COMPARISON))
        yield folder, decisions, first


def test_a_good_first_model_becomes_champion(project) -> None:
    _, decisions, report = project
    assert all(decision.promoted for decision in decisions[0].values())
    assert report["mr-to-ct"]["champion"]
    assert "better than copying the input: yes" in report["mr-to-ct"]["reasons"][0]


def test_a_bad_model_is_refused_with_reasons_everywhere(project) -> None:
    _, decisions, _ = project
    assert not any(decision.promoted for decision in decisions[1].values())
    assert any(reason.startswith("no collapse: NO") for reason in decisions[1]["ct_to_mr"].reasons)
    assert not json.loads(paths.VERSIONS_JSON.read_text())["ct-to-mr"]["champion"]
    assert "NO" in paths.MODEL_CARD.read_text()
    uri = store.tracking_uri()
    challenger, champion = (registry.alias(uri, "ct-to-mr", which) for which in ("challenger", "champion"))
    assert challenger.version != champion.version
    assert challenger.tags["promoted"] == "false"
    assert "NO" in challenger.tags["decision"]


def test_the_same_weights_make_no_new_version_and_the_same_report(project) -> None:
    before = {file.name: file.read_bytes() for file in paths.REGISTER_REPORT.iterdir()}
    register(RULES, COMPARISON)
    assert len(registry.versions(store.tracking_uri(), "ct-to-mr")) == 2
    assert {file.name: file.read_bytes() for file in paths.REGISTER_REPORT.iterdir()} == before


def test_promote_by_hand_and_roll_back(project) -> None:
    uri = store.tracking_uri()
    promotion.promote(uri, registry.version(uri, "mr-to-ct/2"))
    assert [int(registry.alias(uri, "mr-to-ct", which).version) for which in ("champion", "previous")] == [2, 1]
    promotion.rollback(uri, "mr-to-ct")
    assert [int(registry.alias(uri, "mr-to-ct", which).version) for which in ("champion", "previous")] == [1, 2]


def test_unknown_names_say_what_there_is(project) -> None:
    uri = store.tracking_uri()
    with pytest.raises(UserError, match="expected ct-to-mr or mr-to-ct"):
        registry.version(uri, "pet-to-ct")
    with pytest.raises(UserError, match=r"no version 9 of mr-to-ct; it has versions 2 \(.*challenger.*\), 1 \(.*champion"):
        registry.version(uri, "mr-to-ct/9")
    with pytest.raises(UserError, match="no champion before"):
        promotion.rollback(uri, "ct-to-mr")


def test_a_version_carries_what_it_takes(project) -> None:
    uri = store.tracking_uri()
    version = registry.version(uri, "ct-to-mr@champion")
    assert json.loads(version.tags["scores"])["mae_high"] == 0.11
    assert "# Brain CT" in version.description
    info = mlflow.models.get_model_info(f"models:/ct-to-mr/{version.version}")
    assert info.signature.inputs.inputs[0].shape == (-1, -1, -1)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/ct-to-mr/{version.version}"))
    required = (folder / "requirements.txt").read_text()
    assert "torch==" in required
    assert "+" not in required
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "input_example.json").is_file()


def test_loads_and_predicts_without_this_project(project, tmp_path: Path) -> None:
    folder = registry.files(store.tracking_uri(), registry.version(store.tracking_uri(), "mr-to-ct@champion")).parents[1]
    script = f"""
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model({str(folder)!r})
import pipeline
assert pipeline.__file__.startswith({str(folder)!r}), pipeline.__file__
np.save("out.npy", model.predict(np.load("in.npy")))
"""
    disk = np.hypot(*np.mgrid[-1:1:90j, -1:1:80j]) < 0.8
    np.save(tmp_path / "in.npy", np.stack([disk * 0.5, disk * 0.8]).astype(np.float32))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    assert np.load(tmp_path / "out.npy").shape == (2, 90, 80)


def test_a_local_store_is_read_without_mlflow_and_says_the_same(project) -> None:
    uri = store.tracking_uri()
    for name, at, wanted in (("ct-to-mr", "@", "champion"), ("mr-to-ct", "@", "challenger"), ("mr-to-ct", "/", "1")):
        quick = lookup.look_up(uri, name, at, wanted)
        if not uri.startswith("sqlite"):
            assert quick is None  # a server is asked through MLflow
            continue
        asked = registry.version(uri, f"{name}{at}{wanted}")
        assert quick is not None
        assert (quick.number, quick.tags) == (str(asked.version), asked.tags)
        assert quick.folder / "artifacts" / "translator" == registry.files(uri, asked)
        # In a process of its own it can be seen that MLflow, whose import takes seconds, is not needed.
        script = (
            f"import sys; from pipeline.tracking import registry; registry.fetch('{name}{at}{wanted}'); assert 'mlflow' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", script], check=True)
    assert lookup.look_up(uri, "ct-to-mr", "@", "nobody") is None
    assert lookup.look_up("sqlite:///absent.db", "ct-to-mr", "@", "champion") is None
