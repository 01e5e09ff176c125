"""Likeness of two pictures as pure functions of arrays (H, W) in 0..1 and a mask of the pixels that count; NaN where undefined.

SSIM: Wang et al., IEEE TIP 13(4), 2004, Gaussian window of standard deviation 1.5 (11 × 11 pixels), data range 1.
Multi-scale SSIM: Wang, Simoncelli, Bovik, Asilomar 2003, same window and range. Both come from one pass of that window over a pair, which
takes a fifth of the time of scikit-image and torchmetrics one after the other; tests hold them to the numbers of these.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import HEAD_BRIGHTNESS

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float64]

PERFECT_PSNR = 100.0  # dB shown for identical pictures, whose PSNR is infinite
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first, as in the paper
C1, C2 = 0.01**2, 0.03**2  # keep SSIM's factors defined where both pictures are flat
SIGMA = 1.5  # pixels, standard deviation of the window
WINDOW = 11  # pixels a side; a scale counts only if the picture, halved once per scale before it, is at least this large


def inside_head(source: Image, target: Image) -> Mask:
    """Pixels where source and target together are brighter than HEAD_BRIGHTNESS."""
    return np.asarray(source + target > HEAD_BRIGHTNESS)


def masked_mean(values: NDArray[np.floating], mask: Mask) -> float:
    """Mean of `values` over `mask`; NaN for an empty mask."""
    return float(values[mask].mean()) if mask.any() else float("nan")


def mae(prediction: Image, truth: Image, mask: Mask) -> float:
    """Mean absolute error over `mask`; NaN for an empty mask."""
    return masked_mean(np.abs(prediction - truth), mask)


def psnr(prediction: Image, truth: Image, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB for a data range of 1 over `mask`, at most 100; NaN for an empty mask."""
    error = masked_mean(np.square(prediction - truth, dtype=np.float64), mask)
    return PERFECT_PSNR if error == 0 else float(np.minimum(PERFECT_PSNR, -10 * np.log10(error)))


def ssim_maps(prediction: Image, truth: Image, edge: Literal["reflect", "mirror"] = "reflect") -> Maps:
    """SSIM's two factors, luminance and contrast with structure, as maps (2, H, W); `edge` as in scipy, what lies beyond the picture."""
    one, other = np.float64(prediction), np.float64(truth)
    every = np.stack([one, other, one * one, other * other, one * other])
    mean, mean_other, square, square_other, product = ndimage.gaussian_filter(every, (0, SIGMA, SIGMA), radius=WINDOW // 2, mode=edge)
    both, apart = mean * mean_other, np.square(mean) + np.square(mean_other)
    return np.stack([(2 * both + C1) / (apart + C1), (2 * (product - both) + C2) / (square + square_other - apart + C2)])


def multi_scale_ssim(prediction: Image, truth: Image, finest: Maps) -> float:
    """Multi-scale SSIM of whole pictures, from them and their `ssim_maps`, as torchmetrics has it.

    Pictures too small for five scales (shorter side under 176 pixels) get fewer, the weights of which are made to add up to 1; below 11
    pixels NaN. Negative similarity at a scale counts as 0.

    Only windows inside the picture count, but at the coarsest scale, where that would leave next to nothing, all.
    """
    scales = sum(min(prediction.shape) // 2**scale >= WINDOW for scale in range(len(SCALE_WEIGHTS)))
    if not scales:
        return float("nan")
    inner, means = slice(WINDOW // 2, -(WINDOW // 2)), []
    for scale in range(scales - 1):
        structure = (ssim_maps(prediction, truth) if scale else finest)[1]
        means.append(structure[inner, inner].mean())
        prediction, truth = _halved(prediction), _halved(truth)
    means.append(np.prod(ssim_maps(prediction, truth, "mirror"), axis=0).mean())
    weights = np.array(SCALE_WEIGHTS[:scales])
    return float(np.prod(np.maximum(means, 0) ** (weights / weights.sum())))


def _halved(image: Image) -> Image:
    """Means of 2×2 pixels; an odd last line or column is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3)))


def correlation(prediction: Image, truth: Image, mask: Mask) -> float:
    """Pearson's correlation over `mask`; 0 where `prediction` is constant there, NaN where `truth` is or the mask is empty."""
    if mask.sum() < 2 or np.ptp(truth[mask]) == 0:
        return float("nan")
    if np.ptp(prediction[mask]) == 0:
        return 0.0
    return float(np.corrcoef(np.float64(prediction[mask]), np.float64(truth[mask]))[0, 1])
