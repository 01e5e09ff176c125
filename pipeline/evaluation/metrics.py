"""Scores of one slice as pure functions of arrays (H, W) in 0..1 and a mask of the pixels that count; NaN where undefined, never silently.

SSIM: Wang et al., IEEE TIP 13(4), 2004, Gaussian window of standard deviation 1.5 (11 × 11 pixels), data range 1.
Multi-scale SSIM: Wang, Simoncelli, Bovik, Asilomar 2003, same window and range, torchmetrics.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

HEAD = 0.1  # with truth, a pixel is inside the head where source and target together are brighter than this
PERFECT_PSNR = 100.0  # dB shown for identical pictures, whose PSNR is infinite
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first, as in the paper
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
    if not mask.any():
        return float("nan")
    _, similar = structural_similarity(
        np.float64(made), np.float64(wanted), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(similar[mask].mean())


def multi_scale_ssim(made: Image, wanted: Image) -> NDArray[np.float64]:
    """Multi-scale SSIM (N,) of whole pictures (N, H, W) in 0..1.

    Pictures too small for five scales (shorter side under 176 pixels) get fewer, the weights of which are made to add up to 1; below 11
    pixels NaN. Negative similarity at a scale counts as 0.
    """
    scales = sum(min(made.shape[1:]) // 2**scale >= WINDOW for scale in range(len(SCALE_WEIGHTS)))
    if not scales:
        return np.full(len(made), np.nan)
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    weights = SCALE_WEIGHTS[:scales]
    made_tensor, wanted_tensor = (torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None] for images in (made, wanted))
    betas = tuple(one / sum(weights) for one in weights)
    found = multiscale_structural_similarity_index_measure(
        made_tensor, wanted_tensor, data_range=1.0, betas=betas, normalize="relu", reduction="none"
    )
    return np.asarray(found.reshape(-1).numpy(), np.float64)


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
    scored = {score.__name__: score(made, truth, mask) for score in (mae, psnr, ssim, correlation)}
    everywhere = np.ones_like(mask)
    return scored | {f"whole_{score.__name__}": score(made, truth, everywhere) for score in (mae, psnr, ssim)}


def back_again(returned: Image, source: Image) -> dict[str, float]:
    """What is lost there and back, inside the source's head (brighter than 0.1)."""
    mask = source > HEAD
    return {"cycle_mae": mae(returned, source, mask), "cycle_ssim": ssim(returned, source, mask)}
