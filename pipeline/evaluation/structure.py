"""Structure of the input that a translation keeps, without truth. Copying the input keeps all of it: no score of truth."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evaluation.tissues import dice

Image = NDArray[np.float32]

HEAD = 0.1  # brighter pixels belong to the head
BINS = 32  # grey levels of the joint histogram
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1))  # MIND's neighbours, pixels down and across


def kept(source: Image, made: Image) -> dict[str, float]:
    """Structure of `source` (H, W) in 0..1 kept in `made`, inside the source's outline; NaN where undefined.

    gradient_correlation: Pearson's correlation of gradient magnitudes; 0 where the translation is flat, NaN where the source is.
    mind_distance: mean absolute difference of MIND descriptors (Heinrich et al., Medical Image Analysis 16(7), 2012), 0: same.
    nmi: normalised mutual information (Studholme et al., Pattern Recognition 32(1), 1999), 1: unrelated, 2: each says the other.
    outline_dice: overlap of the filled outlines of the heads.
    Raises ValueError for NaN or different sizes.
    """
    if source.shape != made.shape:
        raise ValueError(f"source {source.shape} and translation {made.shape} differ in size")
    if not (np.isfinite(source).all() and np.isfinite(made).all()):
        raise ValueError("source or translation holds NaN or infinite pixels")
    outline, made_outline = (np.asarray(ndimage.binary_fill_holes(image > HEAD)) for image in (source, made))
    scores = {"outline_dice": dice(made_outline, outline)}
    names = ("gradient_correlation", "mind_distance", "nmi")
    if outline.sum() < 2:
        return scores | dict.fromkeys(names, float("nan"))
    edges, made_edges = (ndimage.gaussian_gradient_magnitude(np.float64(image), 1.0)[outline] for image in (source, made))
    far = np.abs(mind(source) - mind(made))[:, outline]
    return scores | dict(zip(names, (_correlation(edges, made_edges), float(far.mean()), _shared(source, made, outline)), strict=True))


def mind(image: Image) -> NDArray[np.float64]:
    """MIND descriptor (4, H, W) in 0..1 of a picture: exp(-patch distance to each neighbour / local variance), its largest made 1."""
    picture, (height, width) = np.float64(image), image.shape
    wide = np.pad(picture, 1, mode="edge")
    far = np.stack(
        [ndimage.gaussian_filter(np.square(picture - wide[1 - down :, 1 - right :][:height, :width]), 0.5) for down, right in AROUND]
    )
    variance = far.mean(axis=0)
    found = np.exp(-far / np.maximum(variance, 1e-6))  # flat places have no variance: all neighbours alike there
    return np.asarray(found / found.max(axis=0))


def _correlation(wanted: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    if wanted.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(wanted, made)[0, 1]) if made.std() >= 1e-9 else 0.0


def _shared(source: Image, made: Image, outline: NDArray[np.bool_]) -> float:
    """NaN where the source is flat, 1 where only the translation is."""
    if np.ptp(source[outline]) == 0:
        return float("nan")
    if np.ptp(made[outline]) == 0:
        return 1.0
    together = np.histogram2d(source[outline], made[outline], bins=BINS)[0] / outline.sum()
    return (_entropy(together.sum(axis=0)) + _entropy(together.sum(axis=1))) / _entropy(together)


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return -float((some * np.log(some)).sum())
