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
from pipeline.tracking import models_command, registry, store
from pipeline.tracking.registration import register
from tests.tracking import projects, servers

ALL = params.load(projects.SOURCE / paths.PARAMS)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A project in which a good model was registered, then a bad one."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        folder = projects.make(tmp_path_factory.mktemp(request.param) / "project", with_store=request.param == "sqlite")
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        if request.param == "postgresql":
            if servers.POSTGRES is None:
                pytest.skip("PostgreSQL absent: apt-get install postgresql")
            database = running.enter_context(servers.postgresql())
            artifacts = tmp_path_factory.mktemp("artifacts")
            patch.setenv("MLFLOW_TRACKING_URI", running.enter_context(servers.mlflow_server(database, artifacts)))
        decisions = [register(ALL)]
        first = json.loads(paths.VERSIONS_JSON.read_text())
        projects.make_models(paths.MODELS, seed=1)
        projects.write_metrics(folder, projects.bad())
        decisions.append(register(ALL))
        yield folder, decisions, first


def test_a_good_first_model_becomes_champion(project) -> None:
    _, results, report = project
    assert all(result.decision.promoted for result in results[0].values())
    assert str(results[0]["mr_to_ct"]).startswith("version 1, promoted (decided 20")
    assert str(results[0]["mr_to_ct"]).endswith("; it is champion")
    assert report["mr-to-ct"]["champion"] == report["mr-to-ct"]["weights"]
    assert report["mr-to-ct"]["decision"]["checks"][0]["name"] == "better_than_copy"


def test_a_bad_model_is_refused_with_reasons_everywhere(project) -> None:
    _, results, first = project
    refused = results[1]["ct_to_mr"]
    assert not refused.decision.promoted
    assert "spread" in [check.name for check in refused.decision.failed]
    assert str(refused).endswith("; champion is version 1")
    written = json.loads(paths.VERSIONS_JSON.read_text())["ct-to-mr"]
    assert written["champion"] == first["ct-to-mr"]["weights"] != written["weights"]
    assert "no collapse: no (0.010, at least 0.3)" in paths.MODEL_CARD.read_text()
    uri = store.tracking_uri()
    challenger, champion = (registry.alias(uri, "ct-to-mr", which) for which in ("challenger", "champion"))
    assert challenger.version != champion.version
    assert challenger.tags["promoted"] == "false"
    assert registry.decision(challenger) == refused.decision


def test_the_table_says_what_failed(project, capsys: pytest.CaptureFixture[str]) -> None:
    models_command.show_models()
    table = " ".join(capsys.readouterr().out.split())
    assert "champion" in table
    assert "failed:" in table
    assert "…" not in table


def test_the_same_weights_make_no_new_version_and_the_same_report(project) -> None:
    before = {file.name: file.read_bytes() for file in paths.REGISTER_REPORT.iterdir()}
    register(ALL)
    assert len(registry.versions(store.tracking_uri(), "ct-to-mr")) == 2
    assert {file.name: file.read_bytes() for file in paths.REGISTER_REPORT.iterdir()} == before


def test_promote_by_hand_and_roll_back(project) -> None:
    uri = store.tracking_uri()
    registry.crown(uri, registry.version(uri, "mr-to-ct/2"))
    assert [int(registry.alias(uri, "mr-to-ct", which).version) for which in ("champion", "previous")] == [2, 1]
    registry.roll_back(uri, "mr-to-ct")
    assert [int(registry.alias(uri, "mr-to-ct", which).version) for which in ("champion", "previous")] == [1, 2]


def test_unknown_names_say_what_there_is(project) -> None:
    uri = store.tracking_uri()
    with pytest.raises(UserError, match="expected ct-to-mr or mr-to-ct"):
        registry.version(uri, "pet-to-ct")
    with pytest.raises(UserError, match=r"no version 9 of mr-to-ct; it has versions 2 \(.*challenger.*\), 1 \(.*champion"):
        registry.version(uri, "mr-to-ct/9")
    with pytest.raises(UserError, match="no champion before"):
        registry.roll_back(uri, "ct-to-mr")


def test_a_version_carries_what_it_takes(project) -> None:
    uri = store.tracking_uri()
    version = registry.version(uri, "ct-to-mr@champion")
    assert json.loads(version.tags["scores"])["mae_high"] == 0.11
    assert "# Brain CT" in version.description
    info = mlflow.models.get_model_info(f"models:/ct-to-mr/{version.version}")
    assert info.signature.inputs.inputs[0].shape == (-1, -1, -1)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/ct-to-mr/{version.version}"))
    required = (folder / "requirements.txt").read_text()
    assert "onnxruntime==" in required
    assert "torch" not in required
    assert "+" not in required
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "input_example.json").is_file()


def test_loads_and_predicts_without_this_project(project, tmp_path: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts("models:/mr-to-ct@champion", dst_path=str(tmp_path)))
    script = f"""
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model({str(folder)!r})
import pipeline
assert pipeline.__file__.startswith({str(folder)!r}), pipeline.__file__
np.save("out.npy", model.predict(np.load("in.npy")))
for params in ({{"units": "physical"}}, {{"ct_values": "HU"}}, {{"unit": "hounsfield"}}):
    try:
        model.predict(np.load("in.npy"), params)
    except Exception as error:
        print(error)
    else:
        print("taken:", params)
"""
    disk = np.hypot(*np.mgrid[-1:1:90j, -1:1:80j]) < 0.8
    np.save(tmp_path / "in.npy", np.stack([disk * 0.5, disk * 0.8]).astype(np.float32))
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True)
    assert np.load(tmp_path / "out.npy").shape == (2, 90, 80)
    assert ended.stdout.splitlines() == [
        "params.units: no such parameter; expected unit, contrast, image, ct_values",
        "params.ct_values = HU: expected auto, hu, offset-1024, grey",
        "params.unit = hounsfield: expected picture (values in 0..1) or physical (as in DICOM and NIfTI)",
    ]


def test_a_known_answer_needs_no_mlflow(project) -> None:
    """In a process of its own it can be seen that MLflow, whose import takes seconds, is not needed for what was asked before."""
    uri = store.tracking_uri()
    local = uri.startswith("sqlite")
    script = "import sys; from pipeline.tracking import registry; print(registry.fetch(sys.argv[1])); sys.exit('mlflow' in sys.modules)"
    for model in ("ct-to-mr@champion", "mr-to-ct@challenger", "mr-to-ct/1") if local else ("ct-to-mr@champion",):
        asked, before = registry.version(uri, model), registry.fetch(model)
        answer = subprocess.run([sys.executable, "-c", script, model], capture_output=True, text=True, check=False)
        assert answer.stdout == f"{before}\n"
        assert f"version='{asked.version}', digest='{asked.tags['weights_digest']}'" in answer.stdout
        assert answer.returncode == (0 if local else 1)  # a server is asked each time


def test_the_answer_follows_the_registry(project) -> None:
    uri = store.tracking_uri()
    before = registry.fetch("mr-to-ct@champion")
    assert registry.fetch("mr-to-ct@champion") == before
    champion, _ = registry.roll_back(uri, "mr-to-ct")
    assert registry.fetch("mr-to-ct@champion").version == str(champion.version) != before.version
    assert registry.champions()["mr-to-ct"] == champion.tags["weights_digest"]


def test_a_deleted_version_is_never_served(project) -> None:
    uri = store.tracking_uri()
    version = registry.version(uri, "ct-to-mr@challenger").version
    registry.fetch(f"ct-to-mr/{version}")
    store.client(uri).delete_model_version("ct-to-mr", version)
    for model in (f"ct-to-mr/{version}", "ct-to-mr@challenger"):
        with pytest.raises(UserError, match=r"the registry .* has no"):
            registry.fetch(model)
