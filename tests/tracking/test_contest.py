"""Challenger and champion on the same test slices: who is worse is said with an interval, and a worse one is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import params, paths
from pipeline.dataset import slice_arrays as slices
from pipeline.serving.translator import Translator
from pipeline.tracking import contest, registry, store
from pipeline.tracking.registration import register
from tests.tracking import projects

ALL = params.load(projects.SOURCE / paths.PARAMS)


def of_slices(error: list[float] | np.ndarray, group: str) -> contest.Errors:
    return contest.Errors(np.asarray(error, float), np.ones(len(group), bool), list(group))


def test_pairs_are_compared_over_groups() -> None:
    champion = np.linspace(0.1, 0.2, 8)
    noise = np.array([0.01, -0.01] * 4)
    worse = contest.pair(of_slices(champion + 0.05 + noise, "abcdefgh"), of_slices(champion, "abcdefgh"), "abc", 0.005)
    assert (worse.error, worse.rival_error) == pytest.approx((0.2, 0.15))
    assert worse.test.groups == 8
    assert worse.test.difference is not None
    assert worse.test.difference.mean == pytest.approx(0.05)
    assert worse.test.difference.low is not None
    assert worse.test.difference.low > 0


def test_slices_of_a_group_count_once_in_errors_and_difference() -> None:
    mine, theirs = of_slices([0.3, 0.3, 0.3, 0.1, 0.1], "aaabc"), of_slices([0.1] * 5, "aaabc")
    compared = contest.pair(mine, theirs, "abc", 0.005)
    assert compared.test.groups == 3
    assert compared.test.difference is not None
    assert compared.error - compared.rival_error == pytest.approx(compared.test.difference.mean) == pytest.approx(0.2 / 3)


@pytest.mark.parametrize("truth", [True, False], ids=["with truth", "there and back"])
def test_a_worse_model_is_refused_though_its_floors_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, truth: bool) -> None:
    folder = projects.make(tmp_path / "project", seed=3, with_store=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _test_slices(truth_from=Translator.from_folder(paths.MODELS, "mr_to_ct") if truth else None)
    assert register(ALL)["mr_to_ct"].decision.promoted
    champion = registry.alias(store.tracking_uri(), "mr-to-ct", "champion")
    projects.make_models(paths.MODELS, seed=4)
    result = register(ALL)["mr_to_ct"]
    (check,) = (check for check in result.decision.checks if check.name == "not_worse_than_champion")
    assert check.rival == champion.tags["weights_digest"][:8]
    assert check.groups == 6
    assert check.low <= check.measured <= check.high
    written = json.loads(paths.VERSIONS_JSON.read_text())["mr-to-ct"]
    assert written["decision"] == result.decision.to_json()
    assert f"| champion {check.rival} | {check.rival_error:.4f} | {check.measured:+.4f} [" in paths.MODEL_CARD.read_text()
    assert register(ALL)["mr_to_ct"] == result  # a repetition decides, and writes, the same
    assert json.loads(paths.VERSIONS_JSON.read_text())["mr-to-ct"] == written
    if truth:  # the champion made it, so nobody can be better
        assert not result.decision.promoted
        assert check.rival_error < 0.01
        assert written["champion"] == champion.tags["weights_digest"]


def _test_slices(truth_from: Translator | None) -> None:
    """Test slices of 64 pixels; the truth of the MR slices is what `truth_from` makes of them."""
    g = np.random.default_rng(0)
    paths.SLICES.mkdir(parents=True)
    slices.write_preprocessing(paths.SLICES, params.load().preprocess)
    rows = []
    for modality in paths.MODALITIES:
        images = g.uniform(0, 1, (6, 64, 64)).astype(np.float32)
        np.save(paths.slices("test", modality), slices.quantise(images))
        has_truth = truth_from is not None and modality == "mr"
        if has_truth:
            made = truth_from.generator.translate(slices.to_float(slices.load_array("test", "mr")), None)
            np.save(paths.slices("truth", "ct"), slices.quantise(made))
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
