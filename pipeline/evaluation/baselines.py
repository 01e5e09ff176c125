"""What a translation must beat: methods that look at no more than brightness."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import Direction, Modality
from pipeline.imaging.intensity import display

Images = NDArray[np.float32]
LEVELS = 2**16
TRAINING_SLICES = 200  # that the target modality's mean and histogram are taken from, evenly spread
LABELS = {  # of what a model is compared with, in the order in which people see them
    "box": "Model in the box, resized",
    "copy": "Copy the input",
    "histogram": "Input with the target's histogram",
    "mean": "Mean picture of the target's training slices",
    "black": "All black",
}


def baselines(direction: Direction, folder: Path = paths.SLICES) -> Mapping[str, Callable[[Images], Images]]:
    """By name, functions from source slices (N, H, W) in 0..1, as displayed, to what a trivial method makes of them.

    Where the store `folder` has no training slices, those that learn from them are left out.
    """
    untaught: dict[str, Callable[[Images], Images]] = {"copy": lambda images: images, "black": np.zeros_like}
    if not (folder / paths.slices("train", direction.target).name).is_file():
        return untaught
    shown = display(read_sample(direction.target, folder), direction.target, slice_arrays.load_preprocessing(folder).ct_window)
    mean = MeanPicture(shown.mean(axis=0))
    levels, quantiles = histogram(shown)
    return untaught | {
        "histogram": lambda images: np.stack([match_histogram(image, levels, quantiles) for image in images]),
        "mean": mean.translate,
    }


def histogram(images: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brightness levels in 0..1, of LEVELS steps, that occur in `images` and the share of pixels at or below each."""
    counts = np.bincount(np.rint(images.ravel() * (LEVELS - 1)).astype(np.int64))
    levels = np.flatnonzero(counts)
    return levels / (LEVELS - 1), np.cumsum(counts[levels]) / images.size


def match_histogram(image: NDArray[np.float32], levels: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float32]:
    """`image` (H, W) with that histogram: as skimage.exposure.match_histograms, which would count the histogram again for each image."""
    _, place, counts = np.unique(image.ravel(), return_inverse=True, return_counts=True)
    return np.interp(np.cumsum(counts) / image.size, quantiles, levels)[place].reshape(image.shape).astype(np.float32)


class MeanPicture:
    """A picture (H, W) in 0..1 as a generator that does not look at its input."""

    def __init__(self, picture: Images) -> None:
        self.picture = Image.fromarray(picture.astype(np.float32))

    def translate(self, images: Images, contrast: Sequence[str] | str | None = None) -> Images:
        """The picture in the size of `images` (N, H, W), N times: models from elsewhere may be of another size than the training slices."""
        height, width = images.shape[1:]
        resized = np.asarray(self.picture.resize((width, height), Image.Resampling.BILINEAR))
        return np.repeat(resized[None], len(images), axis=0)


def mean_picture(target: Modality, folder: Path = paths.SLICES) -> MeanPicture:
    """The mean of the training slices of `target` in the store `folder`. Raises UserError where there are none."""
    return MeanPicture(read_sample(target, folder).mean(axis=0))


def read_sample(target: Modality, folder: Path) -> Images:
    """TRAINING_SLICES of the training slices of `target` at most, evenly spread, in 0..1 as the networks see them."""
    training = slice_arrays.load_array("train", target, folder)
    places = np.linspace(0, len(training) - 1, TRAINING_SLICES).round().astype(int)
    return slice_arrays.to_float(np.asarray(training[np.unique(places)]))
