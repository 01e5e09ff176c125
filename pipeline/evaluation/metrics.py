"""Scores of one slice as pure functions of arrays (H, W) in 0..1 and a mask of the pixels that count; NaN where undefined, never silently.

SSIM: Wang et al., IEEE TIP 13(4), 2004, Gaussian window of standard deviation 1.5 (11 × 11 pixels), data range 1.
Multi-scale SSIM: Wang, Simoncelli, Bovik, Asilomar 2003, same window and range. Both come from one pass of that window over a pair, which
takes a fifth of the time of scikit-image and torchmetrics one after the other; tests hold them to the numbers of these.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Maps = NDArray[np.float64]

HEAD = 0.1  # with truth, a pixel is inside the head where source and target together are brighter than this
PERFECT_PSNR = 100.0  # dB shown for identical pictures, whose PSNR is infinite
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first, as in the paper
C1, C2 = 0.01**2, 0.03**2  # keep SSIM's factors defined where both pictures are flat
SIGMA = 1.5  # pixels, standard deviation of the window
WINDOW = 11  # pixels a side; a scale counts only if the picture, halved once per scale before it, is at least this large
SCORES = ("mae", "psnr", "ssim", "correlation")


def inside_head(source: Image, target: Image) -> Mask:
    """Pixels where source + target > 0.1."""
    return np.asarray(source + target > HEAD)


def mae(made: Image, wanted: Image, mask: Mask) -> float:
    """Mean absolute error over `mask`; NaN for an empty mask."""
    return float(np.abs(made - wanted)[mask].mean()) if mask.any() else float("nan")


def psnr(made: Image, wanted: Image, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB for a data range of 1 over `mask`, at most 100; NaN for an empty mask."""
    if not mask.any():
        return float("nan")
    error = float(np.square(made - wanted, dtype=np.float64)[mask].mean())
    return PERFECT_PSNR if error == 0 else min(PERFECT_PSNR, -10 * float(np.log10(error)))


def ssim(made: Image, wanted: Image, mask: Mask) -> float:
    """Structural similarity averaged over `mask` (the windows reach beyond it); NaN for an empty mask."""
    return float(np.prod(_similarity(made, wanted), axis=0)[mask].mean()) if mask.any() else float("nan")


def multi_scale_ssim(made: Image, wanted: Image) -> float:
    """Multi-scale SSIM of whole pictures in 0..1.

    Pictures too small for five scales (shorter side under 176 pixels) get fewer, the weights of which are made to add up to 1; below 11
    pixels NaN. Negative similarity at a scale counts as 0.
    """
    return _over_scales(made, wanted, _similarity(made, wanted))


def _similarity(made: Image, wanted: Image, edge: Literal["reflect", "mirror"] = "reflect") -> Maps:
    """SSIM's two factors, luminance and contrast with structure, as maps (2, H, W); `edge` as in scipy, what lies beyond the picture."""
    one, other = np.float64(made), np.float64(wanted)
    every = np.stack([one, other, one * one, other * other, one * other])
    mean, mean_other, square, square_other, product = ndimage.gaussian_filter(every, (0, SIGMA, SIGMA), radius=WINDOW // 2, mode=edge)
    both, apart = mean * mean_other, np.square(mean) + np.square(mean_other)
    return np.stack([(2 * both + C1) / (apart + C1), (2 * (product - both) + C2) / (square + square_other - apart + C2)])


def _over_scales(made: Image, wanted: Image, finest: Maps) -> float:
    """Multi-scale SSIM from the pictures and `_similarity` at the finest scale, as torchmetrics has it.

    Only windows inside the picture count, but at the coarsest scale, where that would leave next to nothing, all.
    """
    scales = sum(min(made.shape) // 2**scale >= WINDOW for scale in range(len(SCALE_WEIGHTS)))
    if not scales:
        return float("nan")
    inner, means = slice(WINDOW // 2, -(WINDOW // 2)), []
    for scale in range(scales - 1):
        structure = (_similarity(made, wanted) if scale else finest)[1]
        means.append(structure[inner, inner].mean())
        made, wanted = _halved(made), _halved(wanted)
    means.append(np.prod(_similarity(made, wanted, "mirror"), axis=0).mean())
    weights = np.array(SCALE_WEIGHTS[:scales])
    return float(np.prod(np.maximum(means, 0) ** (weights / weights.sum())))


def _halved(image: Image) -> Image:
    """Means of 2×2 pixels; an odd last line or column is left out."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3)))


def correlation(made: Image, wanted: Image, mask: Mask) -> float:
    """Pearson's correlation over `mask`; 0 where `made` is constant there, NaN where `wanted` is or the mask is empty."""
    if mask.sum() < 2 or np.ptp(wanted[mask]) == 0:
        return float("nan")
    if np.ptp(made[mask]) == 0:
        return 0.0
    return float(np.corrcoef(np.float64(made[mask]), np.float64(wanted[mask]))[0, 1])


def against_truth(made: Image, truth: Image, mask: Mask) -> dict[str, float]:
    """All scores inside `mask`, and under `whole_…` over the whole picture. Raises ValueError for NaN or different sizes."""
    for name, image in (("translation", made), ("truth", truth)):
        if not np.isfinite(image).all():
            raise ValueError(f"{name} holds NaN or infinite pixels")
    if made.shape != truth.shape:
        raise ValueError(f"translation {made.shape} and truth {truth.shape} differ in size")
    everywhere, maps = np.ones_like(mask), _similarity(made, truth)
    similar = maps[0] * maps[1]
    scored = {score.__name__: score(made, truth, mask) for score in (mae, psnr, correlation)}
    scored |= {"ssim": float(similar[mask].mean()) if mask.any() else float("nan"), "whole_ssim": float(similar.mean())}
    scored |= {f"whole_{score.__name__}": score(made, truth, everywhere) for score in (mae, psnr)}
    return scored | {"whole_ms_ssim": _over_scales(made, truth, maps)}


def back_again(returned: Image, source: Image) -> dict[str, float]:
    """What is lost there and back, inside the source's head (brighter than 0.1)."""
    mask = source > HEAD
    return {"cycle_mae": mae(returned, source, mask), "cycle_ssim": ssim(returned, source, mask)}
