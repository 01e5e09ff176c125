"""Planted lesions: the score by hand, that they show, and what a network that is blind to them gets."""

import itertools

import numpy as np
import pytest

from pipeline import paths
from pipeline.evaluation import lesions
from tests.training import jobs


def test_contrast_kept_by_hand() -> None:
    truth = np.array([[[0.8, 0.2, 0.5]], [[0.4, 0.4, 0.5]]], np.float32)  # changes by 0.4 and -0.2 inside
    made = np.array([[[0.7, 0.3, 0.9]], [[0.5, 0.4, 0.1]]], np.float32)  # by 0.2 and -0.1; outside it does not count
    where = np.array([[True, True, False]])
    assert lesions.contrast_kept(truth, truth, where) == pytest.approx(1)
    assert lesions.contrast_kept(made, truth, where) == pytest.approx(0.5)
    assert lesions.contrast_kept(made[::-1], truth, where) == pytest.approx(-0.5)
    assert lesions.changed(truth, where) == pytest.approx(0.3)
    assert lesions.changed(truth, ~where & where) == 0


@pytest.fixture(scope="module")
def planted() -> list[lesions.Planted]:
    return list(lesions.plant(jobs.PARAMS.preprocess))


def test_each_kind_is_planted_in_each_contrast_and_changes_only_what_it_should(planted: list[lesions.Planted]) -> None:
    assert {(one.kind, one.contrast) for one in planted} == set(itertools.product(lesions.KINDS, lesions.MR_CONTRASTS))
    for one in planted:
        for modality in paths.MODALITIES:
            inside = lesions.changed(one.pictures[modality], one.where)
            far = np.abs(one.pictures[modality][0] - one.pictures[modality][1])[~one.where]
            assert inside > 2 * np.median(far), (one.kind, one.contrast, modality)
    assert np.mean([lesions.changed(one.pictures["ct"], one.where) >= lesions.VISIBLE for one in planted]) > 0.7


def test_a_network_that_ignores_the_input_keeps_no_lesion_and_the_truth_keeps_all(
    monkeypatch: pytest.MonkeyPatch, planted: list[lesions.Planted]
) -> None:
    monkeypatch.setattr(lesions, "plant", lambda _: planted)
    monkeypatch.setattr(lesions, "load_preprocess", lambda _: None)
    monkeypatch.setattr(lesions, "load_generator", lambda _, direction: direction.split("_to_")[1])
    answers = {one.pictures[source].tobytes(): one.pictures for one in planted for source in paths.MODALITIES}
    rules = jobs.PARAMS.evaluate
    monkeypatch.setattr(lesions, "translate", lambda target, images, contrast: answers[images.tobytes()][target])
    for found in lesions.score(rules).values():
        assert found["lesions"] >= 6
        assert found["contrast"] == pytest.approx(1)
        assert found["kept"] == 1
    monkeypatch.setattr(lesions, "translate", lambda target, images, contrast: np.full_like(images, 0.5))
    for found in lesions.score(rules).values():
        assert (found["contrast"], found["contrast_high"], found["kept"]) == (0, 0, 0)
        assert set(found["by_kind"]) <= set(lesions.KINDS)
