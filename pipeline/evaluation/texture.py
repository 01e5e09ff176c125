"""Do translations look like real slices of the target modality? Distances of two sets of pictures in features that need no network.

Not FID or KID: the same distances, of features that are counted instead of learned, and so comparable only with each other.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

Images = NDArray[np.float32]
Features = NDArray[np.float64]

GREYS = 16  # levels of the co-occurrence matrix
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
INTENSITIES = np.linspace(0, 1, 9)
GRADIENTS = np.array([0, 0.01, 0.02, 0.04, 0.08, 0.16, np.inf])  # brightness per pixel
RIDGE = 1e-3  # added to every variance of the standardised features, so that few slices do not make them singular


def features(images: Images) -> Features:
    """(N, 32) of pictures (N, H, W) in 0..1: 8 co-occurrence properties, 10 local binary patterns, 8 intensity and 6 gradient shares.

    Co-occurrence (Haralick et al., IEEE SMC 3(6), 1973) at 1 and 2 pixels, over four angles; uniform patterns (Ojala et al., IEEE PAMI
    24(7), 2002) of 8 neighbours. Raises ValueError for NaN or infinite pixels.
    """
    if not np.isfinite(images).all():
        raise ValueError("pictures hold NaN or infinite pixels")
    return np.stack([_picture_features(image) for image in images])


def _picture_features(image: NDArray[np.float32]) -> Features:
    picture = np.clip(image, 0, 1)
    grey = np.uint8(np.minimum(picture * GREYS, GREYS - 1))
    together = graycomatrix(grey, [1, 2], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], levels=GREYS, symmetric=True, normed=True)
    haralick = np.concatenate([graycoprops(together, name).mean(axis=1) for name in PROPERTIES])
    patterns = local_binary_pattern(np.uint8(picture * 255), 8, 1, "uniform")
    edges = ndimage.gaussian_gradient_magnitude(np.float64(picture), 1.0)
    counts = [
        np.bincount(np.int64(patterns.ravel()), minlength=10),
        np.histogram(picture, INTENSITIES)[0],
        np.histogram(edges, GRADIENTS)[0],
    ]
    return np.concatenate([haralick, *(count / picture.size for count in counts)])


def distances(predicted: Features, real: Features) -> dict[str, float]:
    """Distances of two sets of features (N, F) and (M, F), both standardised by the real ones; empty where a set has fewer than two rows.

    texture_frechet: |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½), Fréchet distance of the normal distributions fitted to both
    (Dowson and Landau, J. Multivariate Analysis 12(3), 1982), divided by the number of features.
    texture_kernel: squared maximum mean discrepancy, unbiased, kernel (x·y / F + 1)³ (Gretton et al., JMLR 13, 2012); may fall below 0.
    """
    if min(len(predicted), len(real)) < 2:
        return {}
    middle, scale = real.mean(axis=0), real.std(axis=0)
    scale = np.maximum(scale, 1e-3)  # a feature that no real slice varies must not divide by zero
    x, y = (predicted - middle) / scale, (real - middle) / scale
    return {"texture_frechet": _frechet(x, y), "texture_kernel": _kernel(x, y)}


def _frechet(x: Features, y: Features) -> float:
    ridge = RIDGE * np.eye(x.shape[1])
    first, second = np.cov(x, rowvar=False) + ridge, np.cov(y, rowvar=False) + ridge
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    distance = np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(first) + np.trace(second) - 2 * shared
    return float(max(distance, 0.0) / x.shape[1])


def _kernel(x: Features, y: Features) -> float:
    def similarity(rows: Features, columns: Features) -> Features:
        return np.asarray((rows @ columns.T / rows.shape[1] + 1) ** 3)

    def within(rows: Features) -> float:
        table = similarity(rows, rows)
        return float((table.sum() - np.trace(table)) / (len(rows) * (len(rows) - 1)))

    return within(x) + within(y) - 2 * float(similarity(x, y).mean())
