"""Batches as a function of the step alone, so that a resumed training sees what an uninterrupted one would have seen.

They are made on the device that trains, in float32: random numbers are drawn there, slices lie there as bytes while they fit. Else they are
read a step ahead. What must come from the host comes from pinned memory, so that no step waits for it.
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import MODALITIES, encode_contrast
from pipeline.errors import UserError
from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST, ct_to_unit
from pipeline.models.cyclegan import Batch
from pipeline.models.fast import generator_on, send
from pipeline.models.window import show_through_window
from pipeline.params import Train
from pipeline.training.render import draw_windows
from pipeline.training.simulated_pairs import draw_rows, draw_seed
from pipeline.training.tissue_values import normal, uniform

LEVEL_SCATTER, WIDTH_SCATTER = 4.0, 0.1  # HU, and of the logarithm: how far the windows of files scatter around the usual one
WINDOWED = 0.5  # share of slices with Hounsfield units that are seen through a window
TURN = 7.0  # degrees; this and the next two are standard deviations
SCALE = 0.05
SHIFT = 0.03  # share of the picture's half side
CPU = torch.device("cpu")


class Slices:
    """The arrays of one split, with the contrast of each MR slice and what each CT slice knows."""

    def __init__(self, split: str, folder: Path = paths.SLICES) -> None:
        self.ct, self.mr = (slice_arrays.load_array(split, modality, folder) for modality in MODALITIES)
        if not len(self.ct) or not len(self.mr):
            raise UserError(f"{folder}: split {split} has {len(self.ct)} CT and {len(self.mr)} MR slices; both are needed, bring more data")
        index = slice_arrays.load_index(folder)
        ct, mr = (index[(index["split"] == split) & (index["modality"] == modality)].sort_values("row") for modality in MODALITIES)
        self.contrast_names: list[str] = mr["contrast"].tolist()
        self.contrast = torch.tensor([encode_contrast(name) for name in self.contrast_names])
        self.ct_window = torch.from_numpy(ct[["intensity_low", "intensity_high"]].to_numpy(np.float32, copy=True))  # (N, 2) HU
        self.display_window = slice_arrays.load_preprocessing(folder).ct_window
        self.device = CPU
        self._on_device: dict[str, Tensor] = {}

    def hold(self, device: torch.device, room: int) -> int:
        """Make batches on `device` from now on, and keep the slices there where they take no more than `room` bytes.

        Gives the room that is left.
        """
        self.device = device
        self.contrast, self.ct_window = self.contrast.to(device), self.ct_window.to(device)
        needed = sum(array.size * (1 if array.dtype == np.uint8 else 4) for array in (self.ct, self.mr))
        if needed > room:
            return room
        self._on_device = {"ct": as_torch(self.ct).to(device), "mr": as_torch(self.mr).to(device)}
        return room - needed

    def batch(self, step: int, train: Train) -> Batch:
        """The slices of `step`, unpaired: each is seen once before any is seen again."""
        ct, ct_rows = self.read("ct", draw_rows(step, train.batch_size, len(self.ct), (train.seed, 2)))
        mr, mr_rows = self.read("mr", draw_rows(step, train.batch_size, len(self.mr), (train.seed, 1)))
        random = generator_on(self.device, draw_seed(train.seed, 3, step))
        window = self.ct_window[ct_rows]
        if train.teacher.images:
            ct, window = vary_window(ct, window, random)
        else:  # nobody tells what lies beyond a window: there is but one scale, that of the pictures
            window = 2 * ct_to_unit(window) - 1
        (ct,), (mr,) = (vary((images,), train, random) for images in (ct, mr))
        return Batch(ct, mr, self.contrast[mr_rows], window)

    def read(self, modality: str, rows: list[int]) -> tuple[Tensor, Tensor]:
        """These rows as the networks see them, float32 (N, 1, H, W) in [-1, 1], and `rows` as a tensor; both on the device."""
        array, there = (self.ct if modality == "ct" else self.mr), send(torch.tensor(rows), self.device)
        stored = self._on_device[modality][there] if self._on_device else send(as_torch(array[rows]), self.device)
        return scale_stored(stored, array.dtype), there


def vary_window(ct: Tensor, known: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """`ct` (N, 1, H, W) on the networks' scale and its window on that scale, where `known` (N, 2) HU says what each slice knows.

    The window of a picture is only assumed, since nobody wrote it down: its grey is laid over a window near it. Of slices that know their
    Hounsfield units half are seen through a window that pictures come in.
    """
    count = len(ct)
    windowed = (known[:, 1:] - known[:, :1]) < CT_HIGHEST - CT_LOWEST
    level = known.mean(1, keepdim=True) + LEVEL_SCATTER * normal((count, 1), random)
    width = (known[:, 1:] - known[:, :1]) * torch.exp(WIDTH_SCATTER * normal((count, 1), random))
    near = torch.cat([level - width / 2, level + width / 2], 1)
    seen = torch.where(uniform((count, 1), random) < WINDOWED, draw_windows(count, random), known)
    drawn = torch.where(windowed, near, seen)
    window, assumed = (2 * ct_to_unit(ends) - 1 for ends in (drawn, torch.where(windowed, known, drawn)))
    low, high = window[:, :, None, None, None].unbind(1)
    shown = show_through_window(ct, assumed)  # the same grey, whatever its window is
    return torch.where(ct > -1, low + (shown + 1) / 2 * (high - low), ct), window  # -1: cleared away outside the head, no grey at all


def as_torch(array: NDArray[np.unsignedinteger]) -> Tensor:
    """Stored integers as a type that torch computes with; it knows little of uint16."""
    return torch.from_numpy(np.array(array) if array.dtype == np.uint8 else array.astype(np.int32))


def scale_stored(stored: Tensor, dtype: np.dtype) -> Tensor:
    """Stored integers (N, H, W) of `dtype` as the networks see them, float32 (N, 1, H, W) in [-1, 1]."""
    return (stored.float() / np.iinfo(dtype).max).unsqueeze(1) * 2 - 1


def vary(images: tuple[Tensor, ...], train: Train, random: torch.Generator) -> tuple[Tensor, ...]:
    """`images` flipped (half of the lines), cropped and moved as `train` says, all alike."""
    if train.flip:
        flipped = torch.rand(len(images[0]), 1, 1, 1, generator=random, device=random.device) < 0.5
        images = tuple(torch.where(flipped, image.flip(-1), image) for image in images)
    if train.crop:
        images = crop(images, train.crop, random)
    return move(images, random) if train.affine else images


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
