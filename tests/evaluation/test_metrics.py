"""Scores against cases worked by hand, and what happens where a score has no meaning."""

import math

import numpy as np
import pytest

from pipeline.evaluation import compare, metrics

FLAT = np.full((16, 16), 0.5, np.float32)
RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
ALL = np.ones((16, 16), bool)
NONE = np.zeros((16, 16), bool)


def test_mae_and_psnr_by_hand() -> None:
    assert metrics.mae(FLAT + np.float32(0.1), FLAT, ALL) == pytest.approx(0.1)
    assert metrics.psnr(FLAT + np.float32(0.1), FLAT, ALL) == pytest.approx(20.0, abs=1e-4)


def test_only_the_mask_counts() -> None:
    half = ALL.copy()
    half[:8] = False
    wrong = FLAT.copy()
    wrong[:8] = 1
    assert metrics.mae(wrong, FLAT, half) == 0


def test_identical_pictures() -> None:
    scores = metrics.against_truth(RAMP, RAMP, ALL)
    assert scores["mae"] == 0
    assert scores["psnr"] == metrics.PERFECT_PSNR
    assert scores["ssim"] == pytest.approx(1)
    assert scores["correlation"] == pytest.approx(1)


def test_ssim_of_two_constants_by_hand() -> None:
    # Without variance only the luminance term is left: (2ab + c1) / (a² + b² + c1), c1 = 0.01².
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert metrics.ssim(FLAT, FLAT / 2, ALL) == pytest.approx(expected, abs=1e-6)


def test_correlation() -> None:
    assert metrics.correlation(1 - RAMP, RAMP, ALL) == pytest.approx(-1)
    assert metrics.correlation(FLAT, RAMP, ALL) == 0
    assert math.isnan(metrics.correlation(RAMP, FLAT, ALL))


@pytest.mark.parametrize("score", [metrics.mae, metrics.psnr, metrics.ssim, metrics.correlation])
def test_an_empty_mask_has_no_score(score) -> None:
    assert math.isnan(score(RAMP, FLAT, NONE))


def test_nan_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        metrics.against_truth(RAMP * np.float32("nan"), RAMP, ALL)


def test_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        metrics.against_truth(RAMP, RAMP[:8], ALL)


def test_inside_the_head_is_where_either_is_bright() -> None:
    ct, mr = np.float32([[0, 0.2, 0.04]]), np.float32([[0, 0, 0.05]])
    assert metrics.inside_head(ct, mr).tolist() == [[False, True, False]]


def test_intervals_are_over_groups_not_slices() -> None:
    values, groups = np.array([1.0] * 9 + [0.0]), ["a"] * 9 + ["b"]
    assert compare.group_means(values, groups).tolist() == [1.0, 0.0]
    mean, low, high = compare.interval(values, groups, 500, 0)
    assert (mean, low, high) == (0.5, 0.0, 1.0)


def test_the_interval_of_one_group_has_no_width() -> None:
    assert compare.interval(np.array([0.2, 0.4]), ["a", "a"], 100, 0) == pytest.approx((0.3, 0.3, 0.3))


def test_undefined_values_are_left_out_and_none_left_is_none() -> None:
    assert compare.interval(np.array([0.2, np.nan]), ["a", "b"], 100, 0) == pytest.approx((0.2, 0.2, 0.2))
    assert compare.interval(np.array([np.nan]), ["a"], 100, 0) is None


@pytest.mark.parametrize(
    ("difference", "lower_is_better", "groups", "expected"),
    [
        ((-0.1, -0.2, -0.05), True, 5, "better"),
        ((0.1, 0.05, 0.2), True, 5, "worse"),
        ((0.1, 0.05, 0.2), False, 5, "better"),
        ((0.1, -0.05, 0.2), True, 5, "no difference shown"),
        ((-0.1, -0.1, -0.1), True, 1, "no difference shown"),
    ],
)
def test_verdicts(difference: tuple[float, float, float], lower_is_better: bool, groups: int, expected: str) -> None:
    assert compare.verdict(difference, lower_is_better, groups) == expected


@pytest.mark.parametrize("side", [11, 64, 176])
def test_multi_scale_ssim_of_constants_by_hand(side: int) -> None:
    # Without variance every scale's contrast term is 1; the coarsest scale's luminance counts with its share of the weights.
    scales = {11: 1, 64: 3, 176: 5}[side]
    share = metrics.SCALE_WEIGHTS[scales - 1] / sum(metrics.SCALE_WEIGHTS[:scales])
    light = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    made, wanted = np.full((side, side), 0.5, np.float32), np.full((side, side), 0.25, np.float32)
    assert metrics.multi_scale_ssim(made, wanted) == pytest.approx(light**share, abs=1e-6)


def test_multi_scale_ssim_of_one_too_small() -> None:
    assert metrics.multi_scale_ssim(RAMP, RAMP) == pytest.approx(1)
    assert math.isnan(metrics.multi_scale_ssim(RAMP[:8], RAMP[:8]))


@pytest.mark.parametrize("shape", [(16, 16), (45, 64), (177, 180)])
def test_similarities_are_those_of_the_libraries(shape: tuple[int, int]) -> None:
    import torch
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    random = np.random.default_rng(0)
    wanted = np.cumsum(random.random(shape, np.float32), axis=1) / shape[1]
    made = np.clip(wanted + random.normal(0, 0.2, shape), 0, 1).astype(np.float32)
    scores = metrics.against_truth(made, wanted, mask := wanted > 0.3)
    _, similar = structural_similarity(
        np.float64(made), np.float64(wanted), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert scores["ssim"] == pytest.approx(similar[mask].mean(), abs=1e-9)
    assert scores["whole_ssim"] == pytest.approx(similar.mean(), abs=1e-9)
    assert metrics.ssim(made, wanted, mask) == scores["ssim"]
    weights = metrics.SCALE_WEIGHTS[: {16: 1, 45: 3, 177: 5}[shape[0]]]
    plain = multiscale_structural_similarity_index_measure(
        *(torch.from_numpy(np.float64(one))[None, None] for one in (made, wanted)),
        data_range=1.0,
        betas=tuple(weight / sum(weights) for weight in weights),
        normalize="relu",
    )
    assert scores["whole_ms_ssim"] == pytest.approx(float(plain), abs=1e-6)
    assert metrics.multi_scale_ssim(made, wanted) == scores["whole_ms_ssim"]
