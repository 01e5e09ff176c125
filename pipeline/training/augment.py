"""Variations of slices: turned, scaled, shifted, cropped; drawn where the caller's generator lives."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.training.tissue_values import normal, uniform

TURN = 7.0  # degrees; this and the next two are standard deviations
SCALE = 0.05
SHIFT = 0.03  # share of the picture's half side


def move(images: tuple[Tensor, ...], random: torch.Generator) -> tuple[Tensor, ...]:
    """Turn, scale and shift `images`, (N, 1, H, W) in [-1, 1], all alike but each line of a batch otherwise; outside is black."""
    count = len(images[0])
    angle = normal((count,), random) * math.radians(TURN)
    down, across = (1 + normal((2, count), random) * SCALE).unbind()
    matrix = torch.zeros(count, 2, 3, device=random.device)
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() * across, -angle.sin() * across
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * down, angle.cos() * down
    matrix[:, :, 2] = normal((count, 2), random) * SHIFT
    return tuple(_resample(image, matrix) for image in images)


def crop(images: tuple[Tensor, ...], share: float, random: torch.Generator) -> tuple[Tensor, ...]:
    """A random part of `images`, (N, 1, H, W) in [-1, 1], the same in all, up to `share` of a side smaller, enlarged to the old size."""
    count = len(images[0])
    side = 1 - share * uniform((count,), random)
    matrix = torch.zeros(count, 2, 3, device=random.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = side
    matrix[:, :, 2] = (2 * uniform((count, 2), random) - 1) * (1 - side)[:, None]
    return tuple(_resample(image, matrix) for image in images)


def _resample(images: Tensor, matrix: Tensor) -> Tensor:
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images + 1, grid, align_corners=False) - 1
