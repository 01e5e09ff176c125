"""Likeness of two pictures against cases worked by hand, and what happens where it has no meaning."""

import math

import numpy as np
import pytest

from pipeline.evaluation import similarity
from pipeline.evaluation.similarity import correlation, inside_head, mae, masked_mean, multi_scale_ssim, psnr, ssim_maps

FLAT = np.full((16, 16), 0.5, np.float32)
RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
ALL = np.ones((16, 16), bool)
NONE = np.zeros((16, 16), bool)


def test_mae_and_psnr_by_hand() -> None:
    assert mae(FLAT + np.float32(0.1), FLAT, ALL) == pytest.approx(0.1)
    assert psnr(FLAT + np.float32(0.1), FLAT, ALL) == pytest.approx(20.0, abs=1e-4)
    assert psnr(FLAT, FLAT, ALL) == similarity.PERFECT_PSNR


def test_only_the_mask_counts() -> None:
    half = ALL.copy()
    half[:8] = False
    wrong = FLAT.copy()
    wrong[:8] = 1
    assert mae(wrong, FLAT, half) == 0


def test_ssim_of_two_constants_by_hand() -> None:
    # Without variance only the luminance term is left: (2ab + c1) / (a² + b² + c1), c1 = 0.01².
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert np.prod(ssim_maps(FLAT, FLAT / 2), axis=0) == pytest.approx(expected, abs=1e-6)


def test_correlation() -> None:
    assert correlation(1 - RAMP, RAMP, ALL) == pytest.approx(-1)
    assert correlation(FLAT, RAMP, ALL) == 0
    assert math.isnan(correlation(RAMP, FLAT, ALL))


@pytest.mark.parametrize("score", [mae, psnr, correlation])
def test_an_empty_mask_has_no_score(score) -> None:
    assert math.isnan(score(RAMP, FLAT, NONE))
    assert math.isnan(masked_mean(RAMP, NONE))


def test_inside_the_head_is_where_either_is_bright() -> None:
    ct, mr = np.float32([[0, 0.2, 0.04]]), np.float32([[0, 0, 0.05]])
    assert inside_head(ct, mr).tolist() == [[False, True, False]]


@pytest.mark.parametrize("side", [11, 64, 176])
def test_multi_scale_ssim_of_constants_by_hand(side: int) -> None:
    # Without variance every scale's contrast term is 1; the coarsest scale's luminance counts with its share of the weights.
    scales = {11: 1, 64: 3, 176: 5}[side]
    share = similarity.SCALE_WEIGHTS[scales - 1] / sum(similarity.SCALE_WEIGHTS[:scales])
    light = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    prediction, truth = np.full((side, side), 0.5, np.float32), np.full((side, side), 0.25, np.float32)
    assert multi_scale_ssim(prediction, truth, ssim_maps(prediction, truth)) == pytest.approx(light**share, abs=1e-6)


def test_multi_scale_ssim_of_pictures_too_small() -> None:
    assert multi_scale_ssim(RAMP, RAMP, ssim_maps(RAMP, RAMP)) == pytest.approx(1)
    assert math.isnan(multi_scale_ssim(RAMP[:8], RAMP[:8], ssim_maps(RAMP[:8], RAMP[:8])))


@pytest.mark.parametrize("shape", [(16, 16), (45, 64), (177, 180)])
def test_similarities_are_those_of_the_libraries(shape: tuple[int, int]) -> None:
    import torch
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    random = np.random.default_rng(0)
    truth = np.cumsum(random.random(shape, np.float32), axis=1) / shape[1]
    prediction = np.clip(truth + random.normal(0, 0.2, shape), 0, 1).astype(np.float32)
    maps = ssim_maps(prediction, truth)
    _, expected = structural_similarity(
        np.float64(prediction), np.float64(truth), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert np.prod(maps, axis=0) == pytest.approx(expected, abs=1e-9)
    weights = similarity.SCALE_WEIGHTS[: {16: 1, 45: 3, 177: 5}[shape[0]]]
    expected_over_scales = multiscale_structural_similarity_index_measure(
        *(torch.from_numpy(np.float64(image))[None, None] for image in (prediction, truth)),
        data_range=1.0,
        betas=tuple(weight / sum(weights) for weight in weights),
        normalize="relu",
    )
    assert multi_scale_ssim(prediction, truth, maps) == pytest.approx(float(expected_over_scales), abs=1e-6)
