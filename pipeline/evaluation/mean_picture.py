"""The mean of the training slices as a generator: what a translation without a look at its input would be."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import Modality

SLICES = 200  # training slices that the mean is taken of, evenly spread


class MeanPicture(nn.Module):
    """Gives for every input (N, C, H, W) the same picture (N, 1, H, W) on the networks' scale, -1 to 1."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = nn.Parameter(picture[None, None], requires_grad=False)

    def forward(self, images: Tensor, contrast: Tensor | None = None) -> Tensor:
        resized = interpolate(self.picture, images.shape[-2:], mode="bilinear", align_corners=False)
        return resized.expand(len(images), -1, -1, -1)


def mean_picture(target: Modality, folder: Path = paths.SLICES) -> MeanPicture:
    """The mean of the training slices of `target` in the store `folder`. Raises UserError where there are none."""
    training = slice_arrays.load_array("train", target, folder)
    sample = training[np.unique(np.linspace(0, len(training) - 1, SLICES).round().astype(int))]
    mean = slice_arrays.to_float(sample).mean(axis=0)
    return MeanPicture(torch.from_numpy(2 * mean - 1))
