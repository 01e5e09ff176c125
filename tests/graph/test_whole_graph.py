"""The real commands on a copy of the project: the whole graph with the smallest settings, twice, and from nothing again."""

import json
import shutil

import pytest
from mlflow import MlflowClient

from pipeline import paths
from pipeline.domain import Direction
from tests.graph.projects import STAGES, Project, copy_project, tree_bytes

REPEATABLE = ("data", "models/ct_to_mr.safetensors", "models/mr_to_ct.safetensors", "models/model.json", "reports/evaluate/metrics.json")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which `dvc repro` has run."""
    project = copy_project(tmp_path_factory.mktemp("smoke"), with_store=False)
    printed = project.repro()
    assert [line.split("'")[1] for line in printed.splitlines() if line.startswith("Running stage")] == STAGES
    return project


def test_ends_with_both_models_registered(done: Project) -> None:
    uri = f"sqlite:///{done.folder}/mlruns/mlflow.db"
    registry = MlflowClient(uri, registry_uri=uri)
    versions = {version.name: version for version in registry.search_model_versions()}
    assert versions.keys() == {"ct-to-mr", "mr-to-ct"}
    for direction in Direction:
        version = versions[direction.model_name]
        assert (version.version, version.status) == (1, "READY")
        weights = (done.folder / f"models/{direction}.safetensors").read_bytes()
        logged = done.folder / "mlruns/artifacts"
        assert [file for file in logged.rglob("*.safetensors") if file.read_bytes() == weights]
    assert (done.folder / paths.MODEL_CARD).read_text().startswith("#")


def test_scores_both_directions_against_truth(done: Project) -> None:
    metrics = json.loads((done.folder / paths.METRICS_JSON).read_text())
    for direction in paths.DIRECTIONS:
        scores = metrics["test"][direction]
        assert {"mae", "psnr", "ssim", "cycle_mae", "cycle_ssim"} <= set(scores)
        assert 0 <= scores["mae"] <= 1


def test_second_time_nothing_changed(done: Project) -> None:
    before = (done.folder / "dvc.lock").read_bytes()
    printed = done.repro()
    assert [line for line in printed.splitlines() if line.startswith("Running stage")] == ["Running stage 'look':"]
    assert [line for line in printed.splitlines() if "didn't change, skipping" in line] == [
        f"Stage '{name}' didn't change, skipping" for name in STAGES if name != "look"
    ]
    assert (done.folder / "dvc.lock").read_bytes() == before


def test_dvc_shows_metrics_and_plots(done: Project) -> None:
    assert "mr_to_ct.ssim" in done.run("dvc", "metrics", "show").stdout
    done.run("dvc", "plots", "show", "-o", "plots")
    assert (done.folder / "plots/index.html").is_file()


def test_leaves_git_clean_but_for_the_lock(done: Project) -> None:
    status = done.run("git", "status", "--porcelain").stdout.splitlines()
    assert [line[3:] for line in status if "plots/" not in line] == ["dvc.lock"]


def test_from_nothing_again_gives_the_same_bytes(done: Project) -> None:
    before = tree_bytes(done.folder, *REPEATABLE)
    for name in ("data", "models", "reports", "checkpoints"):
        shutil.rmtree(done.folder / name)
    done.run_stages(*STAGES[:-1])
    after = tree_bytes(done.folder, *REPEATABLE)
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []
