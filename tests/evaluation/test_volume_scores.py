"""Scores of CT volumes by hand: tissues, bone, distances in mm, water-equivalent paths."""

import math

import numpy as np
import pytest

from pipeline.domain import SCORES
from pipeline.evaluation.volume_scores import VOLUME_SCORES, VolumeTranslation, hausdorff_95, score_volume
from pipeline.evaluation.water_path import relative_electron_density, spread_directions, water_paths

ONE_MM = (1.0, 1.0, 1.0)


def box(shape: tuple[int, int, int], start: int, stop: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask


def test_every_score_has_its_line_in_the_domain() -> None:
    assert set(VOLUME_SCORES) <= set(SCORES)


def test_errors_by_tissue_and_bias_by_hand() -> None:
    truth = np.full((20, 20, 20), 40.0)
    truth[:5], truth[5:10] = -1000, 1000
    prediction = truth + 10
    prediction[:5], prediction[5:10] = -900, 600
    scores = score_volume(VolumeTranslation(prediction, truth, np.ones(truth.shape, bool), ONE_MM))
    assert (scores["air_mae_hu"], scores["bone_mae_hu"], scores["soft_mae_hu"]) == (100, 400, 10)
    assert scores["volume_mae_hu"] == pytest.approx((100 + 400 + 10 + 10) / 4)
    assert scores["me_hu"] == pytest.approx((100 - 400 + 10 + 10) / 4)
    assert scores["bone_dice"] == 1


def test_a_perfect_translation() -> None:
    truth = np.random.default_rng(0).normal(100, 300, (24, 24, 24))
    scores = score_volume(VolumeTranslation(truth, truth, np.ones(truth.shape, bool), ONE_MM))
    perfect = dict.fromkeys(VOLUME_SCORES, 0) | {"volume_psnr": 100, "volume_ms_ssim": 1, "bone_dice": 1, "air_mae_hu": 0}
    assert scores == pytest.approx(perfect)


def test_distances_are_in_millimetres_and_the_larger_of_both_ways() -> None:
    shape = (30, 30, 30)
    assert hausdorff_95(box(shape, 5, 15), box(shape, 5, 15), ONE_MM) == 0
    moved = np.roll(box(shape, 5, 15), 4, axis=2)
    assert hausdorff_95(moved, box(shape, 5, 15), ONE_MM) == pytest.approx(4)
    assert hausdorff_95(moved, box(shape, 5, 15), (1.0, 1.0, 2.5)) == pytest.approx(10)
    with_far_part = box(shape, 5, 15) | box(shape, 20, 28)
    there, back = hausdorff_95(with_far_part, box(shape, 5, 15), ONE_MM), hausdorff_95(box(shape, 5, 15), with_far_part, ONE_MM)
    assert there == back > 8


def test_bone_that_one_volume_lacks_is_as_far_as_the_volume_reaches() -> None:
    shape = (30, 30, 30)
    nothing = np.zeros(shape, bool)
    assert hausdorff_95(nothing, box(shape, 5, 15), ONE_MM) == pytest.approx(math.sqrt(3 * 30**2))
    assert math.isnan(hausdorff_95(nothing, nothing, ONE_MM))


def test_nan_and_other_sizes_are_refused() -> None:
    truth, mask = np.zeros((8, 8, 8)), np.ones((8, 8, 8), bool)
    with pytest.raises(ValueError, match="prediction holds NaN"):
        score_volume(VolumeTranslation(truth * np.nan, truth, mask, ONE_MM))
    with pytest.raises(ValueError, match="differ in size"):
        score_volume(VolumeTranslation(truth[1:], truth, mask, ONE_MM))


def test_electron_densities_of_known_matter() -> None:
    densities = relative_electron_density(np.array([-1000, -2000, -100, 0, 40, 975, 1950]))
    assert densities == pytest.approx([0, 0, 0.9, 1, 1.04, 1.5, 2.0])
    assert (np.diff(relative_electron_density(np.arange(-1100, 3200))) >= 0).all()


def test_water_paths_through_a_ball_of_water_and_one_of_bone() -> None:
    places = np.indices((80, 80, 40)) - np.array([39.5, 39.5, 19.5])[:, None, None, None]
    ball = np.linalg.norm(places * np.array([1, 1, 2])[:, None, None, None], axis=0) < 30  # voxels of 1 × 1 × 2 mm
    water, bone = np.where(ball, 0.0, -1000.0), np.where(ball, 975.0, -1000.0)
    paths = water_paths(bone, water, ball, (1.0, 1.0, 2.0), rays=100)
    assert paths.truth == pytest.approx(60, abs=2)
    assert paths.prediction == pytest.approx(90, abs=3)
    assert paths.error_mm == pytest.approx(30, abs=0.5)
    assert paths.error_percent == pytest.approx(50, abs=0.1)


def test_directions_are_spread_evenly() -> None:
    directions = spread_directions(500)
    assert np.linalg.norm(directions, axis=1) == pytest.approx(1)
    assert directions.mean(axis=0) == pytest.approx(0, abs=0.01)
    assert directions.T @ directions / 500 == pytest.approx(np.eye(3) / 3, abs=0.01)
