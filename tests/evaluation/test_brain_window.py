"""Overlap of tissues by hand, and the level in the head against simulated heads whose height is known."""

import math

import numpy as np
import pytest

from pipeline import phantom
from pipeline.domain import Modality
from pipeline.evaluation.brain_window import dice, level_of, tissue_dice
from pipeline.formats.slices import Slice
from pipeline.imaging.intensity import display
from pipeline.imaging.prepare import NoHead, prepare
from tests.training import jobs


def test_dice_by_hand() -> None:
    prediction, truth = np.array([True, True, False, False]), np.array([True, False, True, True])
    assert dice(prediction, truth) == pytest.approx(2 * 1 / (2 + 3))


def test_dice_of_nothing_is_undefined() -> None:
    assert math.isnan(dice(np.zeros(4, bool), np.zeros(4, bool)))


def test_skull_air_and_fluid_of_a_row_by_hand() -> None:
    truth = np.float32([[1.0, 1.0, 0.0, 0.1, 0.5]])
    prediction = np.float32([[1.0, 0.5, 0.0, 0.1, 0.1]])
    scores = tissue_dice(prediction, truth, np.ones((1, 5), bool))
    assert scores == pytest.approx({"skull_dice": 2 / 3, "air_dice": 1, "fluid_dice": 2 / 3})


def test_air_around_the_head_does_not_count_but_air_enclosed_by_it_does() -> None:
    head = np.zeros((7, 7), bool)
    head[1:6, 1:6] = True
    head[3, 3] = False  # a sinus
    truth = np.where(head, 0.5, 0).astype(np.float32)
    assert tissue_dice(truth, truth, head)["air_dice"] == 1
    assert tissue_dice(np.full_like(truth, 0.5), truth, head)["air_dice"] == 0


def test_levels_of_simulated_heads() -> None:
    expected_levels = [
        ("low", 0.02),
        ("low", 0.1),
        ("low", 0.2),
        ("middle", 0.4),
        ("middle", 0.5),
        ("middle", 0.6),
        ("top", 0.9),
        ("top", 0.95),
    ]
    correct = []
    for seed in range(70, 75):
        for (expected, _), head in zip(
            expected_levels, phantom.simulate_subject(seed, [place for _, place in expected_levels], size=128), strict=True
        ):
            try:
                slice_ = Slice(np.float32(phantom.render_pair(head, seed)[0]) / 255)
                ct = display(prepare(slice_, Modality.CT, jobs.PARAMS.preprocess).array, Modality.CT, jobs.PARAMS.preprocess.ct_window)
            except NoHead:
                continue
            correct.append(level_of(ct) == expected)
    assert len(correct) > 35
    assert np.mean(correct) >= 0.9


def test_a_black_picture_has_a_level() -> None:
    assert level_of(np.zeros((16, 16), np.float32)) == "middle"
