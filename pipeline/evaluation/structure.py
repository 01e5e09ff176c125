"""Structure of the input that a translation preserves, without truth. Copying the input preserves all of it: no score of truth."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import HEAD_BRIGHTNESS
from pipeline.evaluation.brain_window import dice

Image = NDArray[np.float32]

BINS = 32  # grey levels of the joint histogram
NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # of MIND, pixels down and across


def preservation(source: Image, prediction: Image) -> dict[str, float]:
    """Structure of `source` (H, W) in 0..1 that `prediction` preserves, inside the source's outline; NaN where undefined.

    gradient_correlation: Pearson's correlation of gradient magnitudes; 0 where the translation is flat, NaN where the source is.
    mind_distance: mean absolute difference of MIND descriptors (Heinrich et al., Medical Image Analysis 16(7), 2012), 0: same.
    nmi: normalised mutual information (Studholme et al., Pattern Recognition 32(1), 1999), 1: unrelated, 2: each says the other.
    outline_dice: overlap of the filled outlines of the heads.
    Raises ValueError for NaN or different sizes.
    """
    if source.shape != prediction.shape:
        raise ValueError(f"source {source.shape} and translation {prediction.shape} differ in size")
    if not (np.isfinite(source).all() and np.isfinite(prediction).all()):
        raise ValueError("source or translation holds NaN or infinite pixels")
    outline, predicted_outline = (np.asarray(ndimage.binary_fill_holes(image > HEAD_BRIGHTNESS)) for image in (source, prediction))
    overlap = dice(predicted_outline, outline)
    if outline.sum() < 2:
        return {"outline_dice": overlap, **dict.fromkeys(("gradient_correlation", "mind_distance", "nmi"), float("nan"))}
    edges, predicted_edges = (ndimage.gaussian_gradient_magnitude(np.float64(image), 1.0)[outline] for image in (source, prediction))
    return {
        "outline_dice": overlap,
        "gradient_correlation": _correlation(predicted_edges, edges),
        "mind_distance": float(np.abs(mind(source) - mind(prediction))[:, outline].mean()),
        "nmi": _mutual_information(source[outline], prediction[outline]),
    }


def mind(image: Image) -> NDArray[np.float64]:
    """MIND descriptor (4, H, W) in 0..1 of a picture: exp(-patch distance to each neighbour / local variance), its largest made 1."""
    picture, (height, width) = np.float64(image), image.shape
    wide = np.pad(picture, 1, mode="edge")
    distance = np.stack(
        [ndimage.gaussian_filter(np.square(picture - wide[1 - down :, 1 - right :][:height, :width]), 0.5) for down, right in NEIGHBOURS]
    )
    variance = distance.mean(axis=0)
    descriptor = np.exp(-distance / np.maximum(variance, 1e-6))  # flat places have no variance: all neighbours alike there
    return np.asarray(descriptor / descriptor.max(axis=0))


def _correlation(prediction: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """NaN where the source is flat, 0 where only the translation is."""
    if source.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(source, prediction)[0, 1]) if prediction.std() >= 1e-9 else 0.0


def _mutual_information(source: Image, prediction: Image) -> float:
    """Normalised, of two sets of pixels (N,): NaN where the source is flat, 1 where only the translation is."""
    if np.ptp(source) == 0:
        return float("nan")
    if np.ptp(prediction) == 0:
        return 1.0
    joint = np.histogram2d(source, prediction, bins=BINS)[0] / source.size
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / _entropy(joint)


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return -float((positive * np.log(positive)).sum())
