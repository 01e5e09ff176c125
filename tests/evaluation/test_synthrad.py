"""The challenge's scores: by hand where that is possible, and against a plain re-computation of multi-scale SSIM from its definition."""

import math

import numpy as np
import pytest
from scipy.signal import convolve
from skimage.util import view_as_windows

from pipeline.evaluation import synthrad

SHAPE = (20, 24, 22)


def head(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy ball of soft tissue in a shell of bone, and its mask."""
    places = np.indices(SHAPE) - np.array(SHAPE)[:, None, None, None] / 2
    radius = np.sqrt(np.square(places).sum(axis=0))
    hounsfield = np.where(radius < 7, 40.0, np.where(radius < 9, 900.0, -900.0))
    return (hounsfield + np.random.default_rng(seed).normal(0, 20, SHAPE)).astype(np.float32), radius < 9.5


def test_mae_and_psnr_by_hand() -> None:
    truth, mask = head()
    assert synthrad.mae(truth + 50, truth, mask) == pytest.approx(50)
    assert synthrad.psnr(truth + 50, truth, mask) == pytest.approx(20 * math.log10(4095 / 50))


def test_what_lies_outside_the_mask_does_not_count() -> None:
    truth, mask = head()
    elsewhere = np.where(mask, truth, 3000).astype(np.float32)
    assert synthrad.mae(elsewhere, truth, mask) == 0
    assert synthrad.psnr(elsewhere, truth, mask) == math.inf
    assert synthrad.ms_ssim(elsewhere, truth, mask) == pytest.approx(1)


def test_psnr_and_ssim_clip_to_the_range_and_mae_does_not() -> None:
    truth, mask = head()
    metal, more_metal = truth.copy(), truth.copy()
    metal[10, 12, 11], more_metal[10, 12, 11] = 3071, 5071
    assert synthrad.psnr(more_metal, metal, mask) == math.inf
    assert synthrad.ms_ssim(more_metal, metal, mask) == pytest.approx(1)
    assert synthrad.mae(more_metal, metal, mask) == pytest.approx(2000 / mask.sum())


def test_multi_scale_ssim_is_its_definition() -> None:
    truth, mask = head()
    prediction = (truth + np.random.default_rng(1).normal(0, 200, SHAPE)).astype(np.float32)
    assert synthrad.ms_ssim(prediction, truth, mask) == pytest.approx(plain_ms_ssim(prediction, truth, mask), abs=1e-9)


def plain_ms_ssim(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """From the definition, window by window, with statistics of NumPy."""
    padding = [((97 - side) // 2, 97 - side - (97 - side) // 2) for side in SHAPE]
    filled = [np.where(mask, np.clip(np.float64(each), -1024, 3071), -1024) + 1024 for each in (prediction, truth)]
    volumes = [np.pad(each, padding, mode="edge") for each in filled]
    inside = np.pad(mask, padding, mode="edge")
    product = 1.0
    for weight in (0.0448, 0.2856, 0.3001, 0.2363, 0.1333):
        x, y = (view_as_windows(volume, (7, 7, 7)) for volume in volumes)  # only windows inside: those of the border do not count
        values = []
        for place in np.argwhere(inside[3:-3, 3:-3, 3:-3]):
            a, b = x[tuple(place)].ravel(), y[tuple(place)].ravel()
            (va, vab), (_, vb) = np.cov(a, b)
            c1, c2 = (0.01 * 4095) ** 2, (0.03 * 4095) ** 2
            luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
            contrast = (2 * math.sqrt(va * vb) + c2) / (va + vb + c2)
            structure = (vab + c2 / 2) / (math.sqrt(va * vb) + c2 / 2)
            values.append((max(luminance, 0) * max(contrast, 0) * max(structure, 0)) ** weight)
        product *= np.mean(values)
        volumes = [halve(volume) for volume in volumes]
        inside = inside[::2, ::2, ::2]
    return float(product)


def halve(volume: np.ndarray) -> np.ndarray:
    i, j, k = volume.shape
    return convolve(volume, np.full((2, 2, 2), 1 / 8))[:i:2, :j:2, :k:2]


def test_an_empty_mask_has_no_scores_and_other_sizes_are_refused() -> None:
    truth, mask = head()
    nothing = np.zeros_like(mask)
    assert all(math.isnan(score(truth, truth, nothing)) for score in (synthrad.mae, synthrad.psnr, synthrad.ms_ssim))
    with pytest.raises(ValueError, match="differ in size"):
        synthrad.ms_ssim(truth[1:], truth, mask)
