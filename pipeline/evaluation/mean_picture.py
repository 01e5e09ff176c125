"""The mean of the training slices as a generator: what a translation without a look at its input would be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import Modality

SLICES = 200  # training slices that the mean is taken of, evenly spread

Images = NDArray[np.float32]


class MeanPicture:
    """Gives for every picture the same one (H, W) in 0..1."""

    def __init__(self, picture: Images) -> None:
        self.picture = Image.fromarray(picture.astype(np.float32))

    def translate(self, images: Images, contrast: Sequence[str] | str | None = None) -> Images:
        """The picture in the size of `images` (N, H, W), N times."""
        height, width = images.shape[1:]
        resized = np.asarray(self.picture.resize((width, height), Image.Resampling.BILINEAR))
        return np.repeat(resized[None], len(images), axis=0)


def mean_picture(target: Modality, folder: Path = paths.SLICES) -> MeanPicture:
    """The mean of the training slices of `target` in the store `folder`. Raises UserError where there are none."""
    training = slice_arrays.load_array("train", target, folder)
    sample = training[np.unique(np.linspace(0, len(training) - 1, SLICES).round().astype(int))]
    return MeanPicture(slice_arrays.to_float(sample).mean(axis=0))
