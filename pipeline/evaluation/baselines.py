"""What a translation must beat: methods that look at no more than brightness."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.exposure import match_histograms

from pipeline import paths
from pipeline.dataset import store

Images = NDArray[np.float32]
MOST = 200  # training slices that the target modality's mean and histogram are taken from, evenly spread


def baselines(direction: str, folder: Path = paths.SLICES) -> Mapping[str, Callable[[Images], Images]]:
    """By name, functions from source slices (N, H, W) in 0..1 to what a trivial method makes of them."""
    training = store.load_array("train", direction.split("_to_")[1], folder)
    some = store.to_float(training[np.unique(np.linspace(0, len(training) - 1, MOST).round().astype(int))])
    mean = some.mean(axis=0)
    return {
        "copy": lambda images: images,
        "histogram": lambda images: np.stack([match_histograms(one.ravel(), some.ravel()).reshape(one.shape) for one in images]).astype(
            np.float32
        ),
        "mean": lambda images: np.broadcast_to(mean, images.shape),
        "black": np.zeros_like,
    }
