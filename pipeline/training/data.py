"""Batches as a function of the step alone, so that a resumed training sees what an uninterrupted one would have seen.

They are made on the device that trains, in float32: random numbers are drawn there, slices lie there as bytes while they fit. Else they are
read a step ahead. What must come from the host comes from pinned memory, so that no step waits for it.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS, MODALITIES
from pipeline.errors import UserError
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.fast import generator_on, send
from pipeline.models.fast.ranks import Ranks
from pipeline.models.window import WHOLE
from pipeline.params import Train
from pipeline.training.augment import crop, move
from pipeline.training.simulated_pairs import SimulatedHeads, draw_rows, draw_seed

SomeBatch = TypeVar("SomeBatch", Batch, Pairs)
Inputs = tuple[Batch | None, Pairs | None]
GPU_SHARE = 4  # a quarter of a GPU's free memory may go to slices
CPU = torch.device("cpu")


def encode_contrasts(names: Sequence[str]) -> Tensor:
    """(N, 4): 1 at the named contrast, all zeros where it is unknown."""
    return torch.tensor([[float(name == known) for known in CONTRASTS] for name in names]).reshape(-1, len(CONTRASTS))


class Slices:
    """The arrays of one split, with the contrast of each MR slice and what each CT slice knows."""

    def __init__(self, split: str, folder: Path = paths.SLICES) -> None:
        self.ct, self.mr = (slice_arrays.load_array(split, modality, folder) for modality in MODALITIES)
        if not len(self.ct) or not len(self.mr):
            raise UserError(f"{folder}: split {split} has {len(self.ct)} CT and {len(self.mr)} MR slices; both are needed, bring more data")
        index = slice_arrays.load_index(folder)
        index = index[(index["split"] == split) & (index["modality"] == "mr")].sort_values("row")
        self.contrast_names: list[str] = index["contrast"].tolist()
        self.contrast = encode_contrasts(self.contrast_names)
        self.ct_window = torch.tensor([WHOLE]).repeat(len(self.ct), 1)
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
        self._on_device = {"ct": _as_torch(self.ct).to(device), "mr": _as_torch(self.mr).to(device)}
        return room - needed

    def batch(self, step: int, train: Train) -> Batch:
        """The slices of `step`, unpaired: each is seen once before any is seen again."""
        ct, ct_rows = self._read("ct", draw_rows(step, train.batch_size, len(self.ct), (train.seed, 2)))
        mr, mr_rows = self._read("mr", draw_rows(step, train.batch_size, len(self.mr), (train.seed, 1)))
        random = generator_on(self.device, draw_seed(train.seed, 3, step))
        ct, mr = (_vary(images, train, random) for images in (ct, mr))
        return Batch(ct, mr, self.contrast[mr_rows], self.ct_window[ct_rows])

    def _read(self, modality: str, rows: list[int]) -> tuple[Tensor, Tensor]:
        """These rows as the networks see them, float32 (N, 1, H, W) in [-1, 1], and `rows` as a tensor; both on the device."""
        array, there = (self.ct if modality == "ct" else self.mr), send(torch.tensor(rows), self.device)
        stored = self._on_device[modality][there] if self._on_device else send(_as_torch(array[rows]), self.device)
        return (stored.float() / np.iinfo(array.dtype).max).unsqueeze(1) * 2 - 1, there


class Feed:
    """What each step is given: unpaired slices after the first `teacher_steps`, simulated pairs where there are some."""

    def __init__(
        self, unpaired: Slices, pairs: SimulatedHeads | None, train: Train, teacher_steps: int, device: torch.device, ranks: Ranks
    ) -> None:
        self.unpaired, self.train, self.teacher_steps, self.ranks = unpaired, train, teacher_steps, ranks
        self.pairs = pairs if train.teacher.weight else None
        self._ahead: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Inputs]] = {}
        if device.type != "cpu":
            room = whole = torch.cuda.mem_get_info(device)[0] // GPU_SHARE
            for slices in filter(None, (unpaired, self.pairs)):
                room = slices.hold(device, room)
            if room == whole:
                self._ahead = ThreadPoolExecutor(1, thread_name_prefix="feed")

    def inputs(self, step: int) -> Inputs:
        """The slices and pairs of `step` on the device: this process's part of the batch."""
        waiting = self._next.pop(step, None)
        inputs = waiting.result() if waiting else self._make(step)
        if self._ahead:
            self._next = {step + 1: self._ahead.submit(self._make, step + 1)}
        return inputs

    def _make(self, step: int) -> Inputs:
        unpaired_step = step - self.teacher_steps
        batch = self._part(self.unpaired.batch(unpaired_step, self.train)) if unpaired_step >= 0 else None
        return batch, self._part(self.pairs.pairs(step, self.train)) if self.pairs else None

    def _part(self, batch: SomeBatch) -> SomeBatch:
        return type(batch)(*(None if tensor is None else self.ranks.part(tensor) for tensor in vars(batch).values()))


def _as_torch(array: NDArray[np.unsignedinteger]) -> Tensor:
    """Stored integers as a type that torch computes with; it knows little of uint16."""
    return torch.from_numpy(np.array(array) if array.dtype == np.uint8 else array.astype(np.int32))


def _flip(images: tuple[Tensor, ...], random: torch.Generator) -> tuple[Tensor, ...]:
    """Half of the lines left for right, the same in all `images`."""
    flipped = torch.rand(len(images[0]), 1, 1, 1, generator=random, device=random.device) < 0.5
    return tuple(torch.where(flipped, image.flip(-1), image) for image in images)


def _vary(images: Tensor, train: Train, random: torch.Generator) -> Tensor:
    if train.flip:
        (images,) = _flip((images,), random)
    if train.crop:
        images = crop(images, train.crop, random)
    return move((images,), random)[0] if train.affine else images
