"""Planted lesions: the score by hand, that they show, and what a network that is blind to them gets."""

import itertools

import numpy as np
import pytest

from pipeline.domain import MODALITIES, Direction, Modality
from pipeline.evaluation import planted_lesions
from pipeline.evaluation.planted_lesions import PlantedLesion, contrast_ratio, mean_change, plant_lesions, score_lesions
from tests.training import jobs


def test_contrast_ratio_by_hand() -> None:
    truth = np.array([[[0.8, 0.2, 0.5]], [[0.4, 0.4, 0.5]]], np.float32)  # changes by 0.4 and -0.2 inside
    predictions = np.array([[[0.7, 0.3, 0.9]], [[0.5, 0.4, 0.1]]], np.float32)  # by 0.2 and -0.1; outside it does not count
    mask = np.array([[True, True, False]])
    assert contrast_ratio(truth, truth, mask) == pytest.approx(1)
    assert contrast_ratio(predictions, truth, mask) == pytest.approx(0.5)
    assert contrast_ratio(predictions[::-1], truth, mask) == pytest.approx(-0.5)
    assert mean_change(truth, mask) == pytest.approx(0.3)
    assert mean_change(truth, np.zeros_like(mask)) == 0


@pytest.fixture(scope="module")
def planted() -> list[PlantedLesion]:
    return list(plant_lesions(jobs.PARAMS.preprocess))


def test_each_kind_is_planted_in_each_contrast_and_changes_only_what_it_should(planted: list[PlantedLesion]) -> None:
    kinds = set(itertools.product(planted_lesions.KINDS, planted_lesions.MR_CONTRASTS))
    assert {(lesion.kind, lesion.contrast) for lesion in planted} == kinds
    for lesion in planted:
        for modality in MODALITIES:
            inside = mean_change(lesion.pictures[modality], lesion.mask)
            outside = np.abs(lesion.pictures[modality][0] - lesion.pictures[modality][1])[~lesion.mask]
            assert inside > 2 * np.median(outside), (lesion.kind, lesion.contrast, modality)
    assert np.mean([lesion.is_visible(Modality.CT) for lesion in planted]) > 0.7


def test_a_network_that_ignores_the_input_loses_every_lesion_and_the_truth_none(
    monkeypatch: pytest.MonkeyPatch, planted: list[PlantedLesion]
) -> None:
    monkeypatch.setattr(planted_lesions, "plant_lesions", lambda _: planted)
    monkeypatch.setattr(planted_lesions, "load_preprocess", lambda _: jobs.PARAMS.preprocess)
    monkeypatch.setattr(planted_lesions, "load_generator", lambda _, direction: Direction(direction).target)
    answers = {lesion.inputs[source].tobytes(): lesion.inputs for lesion in planted for source in MODALITIES}
    monkeypatch.setattr(planted_lesions, "translate", lambda target, images, contrast: answers[images.tobytes()][target])
    for scores in score_lesions().values():
        assert scores["lesions"] >= 6
        assert scores["contrast"] == pytest.approx(1)
        assert scores["survival"] == 1
    monkeypatch.setattr(planted_lesions, "translate", lambda target, images, contrast: np.full_like(images, 0.5))
    for scores in score_lesions().values():
        assert (scores["contrast"], scores["contrast_high"], scores["survival"]) == (0, 0, 0)
        assert set(scores["by_kind"]) <= set(planted_lesions.KINDS)
