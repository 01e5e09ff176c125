"""Similarity of CT volumes in Hounsfield units as the SynthRAD2025 challenge defines it, to all digits of its own code.

MAE, PSNR and multi-scale SSIM in three dimensions, inside a mask. For PSNR and SSIM volumes are clipped to RANGE, for SSIM also filled with
its lower end outside the mask; MAE is that of the values as they are. Multi-scale SSIM follows Wang, Simoncelli, Bovik, Asilomar 2003, with
the challenge's choices: a uniform window of WINDOW³ voxels with sample covariance, luminance at every scale, factors clipped at 0, and the
mean inside the mask at every scale.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.floating]
Mask = NDArray[np.bool_]

RANGE = (-1024.0, 3071.0)  # HU
DATA_RANGE = RANGE[1] - RANGE[0]
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # exponents of the five scales, finest first
WINDOW = 7  # voxels a side
BORDER = WINDOW // 2  # voxels at the faces of the volume whose windows reach beyond it; they do not count
SMALLEST = 97  # voxels a side that five scales need; smaller volumes are padded with their edges
C1, C2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2


def mae(prediction: Volume, truth: Volume, mask: Mask) -> float:
    """Mean absolute difference in HU over `mask`; NaN for an empty mask."""
    return float(np.abs(np.float64(prediction[mask]) - truth[mask]).mean()) if mask.any() else np.nan


def psnr(prediction: Volume, truth: Volume, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB over `mask`, the peak being DATA_RANGE; infinite for equal volumes, NaN for an empty mask."""
    if not mask.any():
        return np.nan
    difference = np.clip(np.float64(prediction[mask]), *RANGE) - np.clip(np.float64(truth[mask]), *RANGE)
    error = float(np.square(difference).mean())
    return float(10 * np.log10(DATA_RANGE**2 / error)) if error else float("inf")


def ms_ssim(prediction: Volume, truth: Volume, mask: Mask) -> float:
    """Multi-scale SSIM of two volumes (I, J, K) in HU inside `mask`; NaN where a scale has no voxel of the mask.

    Raises ValueError when the shapes differ.
    """
    if not prediction.shape == truth.shape == mask.shape:
        raise ValueError(f"prediction {prediction.shape}, truth {truth.shape} and mask {mask.shape} differ in size")
    padding = [((short := max(0, SMALLEST - side)) // 2, short - short // 2) for side in truth.shape]
    x, y = (
        np.pad(np.where(mask, np.clip(np.float64(volume), *RANGE), RANGE[0]) - RANGE[0], padding, mode="edge")
        for volume in (prediction, truth)
    )
    inside = np.pad(mask, padding, mode="edge")
    inner = (slice(BORDER, -BORDER),) * 3
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y, inside = _halve(x), _halve(y), inside[::2, ::2, ::2]
        values = _similarity(x, y, weight)[inner][inside[inner]]
        if not values.size:
            return np.nan
        product *= min(1.0, max(0.0, float(values.mean())))
    return product


def _similarity(x: NDArray[np.float64], y: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Luminance · contrast · structure of each voxel's window, each clipped at 0, to the power of `weight`."""
    count = WINDOW**3
    mean_x, mean_y = (ndimage.uniform_filter(volume, WINDOW) for volume in (x, y))
    variance_x, variance_y, covariance = (
        count / (count - 1) * (ndimage.uniform_filter(first * second, WINDOW) - mean_first * mean_second)
        for first, second, mean_first, mean_second in ((x, x, mean_x, mean_x), (y, y, mean_y, mean_y), (x, y, mean_x, mean_y))
    )
    deviations = np.sqrt(np.maximum(variance_x, 0)) * np.sqrt(np.maximum(variance_y, 0))
    similarity = np.maximum((2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1), 0)
    similarity *= np.maximum((2 * deviations + C2) / (variance_x + variance_y + C2), 0)
    similarity *= np.maximum((covariance + C2 / 2) / (deviations + C2 / 2), 0)
    return np.asarray(similarity**weight)


def _halve(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every second voxel of means of 2×2×2, each of a voxel and those before it; before the first lies 0."""
    for axis in range(volume.ndim):
        before = np.roll(volume, 1, axis)
        before[(slice(None),) * axis + (0,)] = 0
        volume = ((volume + before) / 2)[(slice(None),) * axis + (slice(None, None, 2),)]
    return volume
