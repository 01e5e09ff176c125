"""Overlap of tissues and error in Hounsfield units, by hand."""

import math

import numpy as np
import pytest

from pipeline.evaluation import tissues


def test_dice_by_hand() -> None:
    made, wanted = np.array([True, True, False, False]), np.array([True, False, True, True])
    assert tissues.dice(made, wanted) == pytest.approx(2 * 1 / (2 + 3))


def test_dice_of_nothing_is_undefined() -> None:
    assert math.isnan(tissues.dice(np.zeros(4, bool), np.zeros(4, bool)))


def test_skull_air_and_fluid_of_a_row_by_hand() -> None:
    truth = np.float32([[1.0, 1.0, 0.0, 0.1, 0.5]])
    made = np.float32([[1.0, 0.5, 0.0, 0.1, 0.1]])
    scores = tissues.tissue_dice(made, truth, np.ones((1, 5), bool))
    assert scores == pytest.approx({"skull_dice": 2 / 3, "air_dice": 1, "fluid_dice": 2 / 3})


def test_air_around_the_head_does_not_count_but_air_enclosed_by_it_does() -> None:
    head = np.zeros((7, 7), bool)
    head[1:6, 1:6] = True
    head[3, 3] = False  # a sinus
    truth = np.where(head, 0.5, 0).astype(np.float32)
    assert tissues.tissue_dice(truth, truth, head)["air_dice"] == 1
    assert tissues.tissue_dice(np.full_like(truth, 0.5), truth, head)["air_dice"] == 0
