"""Challenger and champion on the same test slices: who is worse is said with an interval, and a worse one is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import params, paths
from pipeline.dataset import slice_arrays as slices
from pipeline.models.inference import translate
from pipeline.serving.translator import Translator
from pipeline.tracking import contest, registry, store
from pipeline.tracking.registration import register
from tests.tracking import projects

ALL = params.load(projects.SOURCE / paths.PARAMS)


def errors(*values: float) -> np.ndarray:
    return np.array(values)


def test_a_clear_difference_is_named_and_a_doubtful_one_is_not() -> None:
    groups = list("abcdefgh")
    champion = np.linspace(0.1, 0.2, 8)
    noise = np.array([0.01, -0.01] * 4)
    worse = contest.verdict(champion + 0.05 + noise, champion, groups, "abc", ALL.evaluate)
    assert not worse.passed
    assert worse.reason.startswith("worse: error 0.2000, champion abc 0.1500 on the same 8 slices of 8 groups, difference +0.0500 [+0.0")
    assert contest.verdict(champion - 0.05 + noise, champion, groups, "abc", ALL.evaluate).reason.startswith("better")
    doubtful = contest.verdict(champion + noise, champion, groups, "abc", ALL.evaluate)
    assert doubtful.passed
    assert doubtful.reason.startswith("no difference shown")


def test_slices_of_a_group_count_once() -> None:
    one_bad_patient = contest.verdict(errors(0.3, 0.3, 0.3, 0.1, 0.1), errors(0.1, 0.1, 0.1, 0.1, 0.1), list("aaabc"), "abc", ALL.evaluate)
    assert one_bad_patient.passed  # one of three groups proves nothing, however many slices it has
    assert "3 groups" in one_bad_patient.reason


def test_equal_models_are_no_difference() -> None:
    assert contest.verdict(errors(0.1, 0.2), errors(0.1, 0.2), ["a", "b"], "abc", ALL.evaluate).passed


@pytest.mark.parametrize("truth", [True, False], ids=["with truth", "there and back"])
def test_a_worse_model_is_refused_though_its_floors_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: bool) -> None:
    folder = projects.make(tmp_path / "project", seed=3)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    _test_slices(truth_from=Translator.from_folder(paths.MODELS, "mr_to_ct") if truth else None)
    assert register(ALL.register_, ALL.evaluate)["mr_to_ct"].promoted
    champion = registry.alias(store.tracking_uri(), "mr-to-ct", "champion")
    projects.make_models(paths.MODELS, seed=4)
    decision = register(ALL.register_, ALL.evaluate)["mr_to_ct"]
    assert decision.compared_with == champion.tags["weights_digest"]
    written = json.loads(paths.VERSIONS_JSON.read_text())["mr-to-ct"]["against_champion"]
    assert written == decision.against
    assert written["difference_low"] <= written["difference"] <= written["difference_high"]
    row = f"| champion {champion.tags['weights_digest'][:8]} | {written['champion_error']:.3f} | {written['difference']:+.4f} ["
    assert row in paths.MODEL_CARD.read_text()
    assert register(ALL.register_, ALL.evaluate)["mr_to_ct"] == decision  # a repetition decides, and writes, the same
    assert json.loads(paths.VERSIONS_JSON.read_text())["mr-to-ct"]["against_champion"] == written
    (reason,) = (reason for reason in decision.reasons if "not worse than the champion" in reason)
    if truth:  # the champion made it, so nobody can be better
        assert not decision.promoted
        assert "NO (worse: error" in reason
        assert written["verdict"] == "worse"
        assert "champion " + champion.tags["weights_digest"][:8] + " 0.0" in reason
    else:
        assert "difference" in reason


def _test_slices(truth_from: Translator | None) -> None:
    """Test slices of 64 pixels; the truth of the MR slices is what `truth_from` makes of them."""
    g = np.random.default_rng(0)
    paths.SLICES.mkdir(parents=True)
    rows = []
    for modality in paths.MODALITIES:
        images = g.uniform(0, 1, (6, 64, 64)).astype(np.float32)
        np.save(paths.slices("test", modality), slices.quantise(images, np.dtype(np.uint16)))
        has_truth = truth_from is not None and modality == "mr"
        if has_truth:
            made = translate(truth_from.generator, slices.to_float(slices.load_array("test", "mr")))
            np.save(paths.slices("truth", "ct"), slices.quantise(made, np.dtype(np.uint16)))
        rows += [
            {
                "split": "test",
                "modality": modality,
                "row": row,
                "pair": row if has_truth else -1,
                "contrast": "t1",
                "group": f"{modality}{row}",
                "intensity_low": 0.0,
                "intensity_high": 1.0,
            }
            for row in range(6)
        ]
    pd.DataFrame(rows).to_parquet(paths.INDEX)
