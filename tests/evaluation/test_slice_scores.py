"""Scores of a translated slice against cases worked by hand, and which of them apply."""

import math

import numpy as np
import pytest

from pipeline.domain import SCORES, Direction
from pipeline.evaluation.slice_scores import SLICE_SCORES, Translation, score_translation

SOURCE = np.full((16, 16), 0.5, np.float32)
RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)


def test_every_score_has_its_line_in_the_domain() -> None:
    assert set(SLICE_SCORES) <= set(SCORES)


def test_a_perfect_translation() -> None:
    scores = score_translation(Translation(Direction.CT_TO_MR, SOURCE, RAMP, RAMP))
    expected = {"mae": 0, "psnr": 100, "ssim": 1, "correlation": 1, "whole_mae": 0, "whole_psnr": 100, "whole_ssim": 1, "whole_ms_ssim": 1}
    assert scores == pytest.approx(expected)


def test_only_the_head_counts() -> None:
    source, truth, prediction = SOURCE.copy(), RAMP.copy(), RAMP.copy()
    source[:8] = truth[:8] = 0  # neither picture shows a head there
    prediction[:8] = 1
    scores = score_translation(Translation(Direction.CT_TO_MR, source, prediction, truth))
    assert scores["mae"] == 0
    assert scores["whole_mae"] == pytest.approx(0.5)


def test_without_truth_only_the_way_back_and_the_structure_are_scored() -> None:
    scores = score_translation(Translation(Direction.MR_TO_CT, SOURCE, RAMP, returned=SOURCE - np.float32(0.1)))
    assert scores["cycle_mae"] == pytest.approx(0.1)
    assert set(scores) == {"cycle_mae", "cycle_ssim", "outline_dice", "gradient_correlation", "mind_distance", "nmi"}


def test_tissues_and_hounsfield_units_are_those_of_ct() -> None:
    to_ct = score_translation(Translation(Direction.MR_TO_CT, SOURCE, RAMP + np.float32(0.1), RAMP, window_width=80.0))
    assert to_ct["mae_hu"] == pytest.approx(8.0, abs=1e-4)
    assert "skull_dice" in to_ct
    unknown_window = score_translation(Translation(Direction.MR_TO_CT, SOURCE, RAMP, RAMP))
    assert "mae_hu" not in unknown_window
    assert "skull_dice" not in score_translation(Translation(Direction.CT_TO_MR, SOURCE, RAMP, RAMP))


def test_uncertainty_that_is_the_error_points_at_all_of_it() -> None:
    error = RAMP / 4
    scores = score_translation(Translation(Direction.CT_TO_MR, SOURCE, SOURCE + error, SOURCE.copy(), uncertainty=error))
    assert scores["uncertainty_correlation"] == pytest.approx(1)


def test_a_slice_without_head_has_undefined_scores() -> None:
    black = np.zeros((16, 16), np.float32)
    scores = score_translation(Translation(Direction.CT_TO_MR, black, RAMP, black))
    assert all(math.isnan(scores[name]) for name in ("mae", "psnr", "ssim", "correlation"))


def test_nan_pixels_and_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        score_translation(Translation(Direction.CT_TO_MR, SOURCE, RAMP * np.float32("nan"), RAMP))
    with pytest.raises(ValueError, match="differ in size"):
        score_translation(Translation(Direction.CT_TO_MR, SOURCE, RAMP, RAMP[:8]))
