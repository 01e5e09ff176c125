"""Batches as a function of the step alone, so that a resumed training sees what an uninterrupted one would have seen.

A GPU holds the slices as bytes while they fit; else they are made one step ahead and sent from pinned memory.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS, MODALITIES
from pipeline.errors import UserError
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.fast.ranks import Ranks
from pipeline.params import Train
from pipeline.training.augment import crop, move
from pipeline.training.simulated_pairs import SimulatedHeads, draw_rows

SomeBatch = TypeVar("SomeBatch", bound=Batch)
Inputs = tuple[Batch | None, Pairs | None]
GPU_SHARE = 4  # a quarter of a GPU's free memory may go to slices


def encode_contrasts(names: Sequence[str]) -> Tensor:
    """(N, 4): 1 at the named contrast, all zeros where it is unknown."""
    return torch.tensor([[float(name == known) for known in CONTRASTS] for name in names]).reshape(-1, len(CONTRASTS))


class Slices:
    """The arrays of one split, with the contrast of each MR slice."""

    def __init__(self, split: str, folder: Path = paths.SLICES) -> None:
        self.ct, self.mr = (slice_arrays.load_array(split, modality, folder) for modality in MODALITIES)
        if not len(self.ct) or not len(self.mr):
            raise UserError(f"{folder}: split {split} has {len(self.ct)} CT and {len(self.mr)} MR slices; both are needed, bring more data")
        index = slice_arrays.load_index(folder)
        index = index[(index["split"] == split) & (index["modality"] == "mr")].sort_values("row")
        self.contrast = encode_contrasts(index["contrast"].tolist())
        self._on_device: dict[str, Tensor] = {}

    def hold(self, device: torch.device, room: int) -> int:
        """Keep the stored integers on `device` from now on, where they take no more than `room` bytes; gives the room that is left."""
        needed = sum(array.size * (1 if array.dtype == np.uint8 else 4) for array in (self.ct, self.mr))
        if needed > room:
            return room
        for modality, array in (("ct", self.ct), ("mr", self.mr)):
            wide = np.array(array) if array.dtype == np.uint8 else array.astype(np.int32)  # torch knows little of uint16
            self._on_device[modality] = torch.from_numpy(wide).to(device)
        return room - needed

    def batch(self, step: int, train: Train) -> Batch:
        """The slices of `step`, unpaired: each is seen once before any is seen again."""
        ct_rows = draw_rows(step, train.batch_size, len(self.ct), (train.seed, 2))
        mr_rows = draw_rows(step, train.batch_size, len(self.mr), (train.seed, 1))
        ct, mr = self._read("ct", ct_rows), self._read("mr", mr_rows)
        if train.flip:
            flips = torch.from_numpy(np.random.default_rng([train.seed, 3, step]).random((2, train.batch_size)) < 0.5)
            ct, mr = _flip(ct, flips[1]), _flip(mr, flips[0])
        if train.crop or train.affine:
            random = torch.Generator().manual_seed(int(np.random.default_rng([train.seed, 4, step]).integers(2**63)))
            ct, mr = (_vary(images, train, random) for images in (ct, mr))
        return Batch(ct, mr, self.contrast[mr_rows])

    def _read(self, modality: str, rows: list[int]) -> Tensor:
        """Rows as the networks see them, float32 (N, 1, H, W) in [-1, 1], from the device where they are held there."""
        array = self.ct if modality == "ct" else self.mr
        if not self._on_device:
            return torch.from_numpy(slice_arrays.to_float(array[rows])).unsqueeze(1) * 2 - 1
        stored = self._on_device[modality]
        return (stored[torch.tensor(rows, device=stored.device)].float() / np.iinfo(array.dtype).max).unsqueeze(1) * 2 - 1


class Feed:
    """What each step is given: unpaired slices after the first `teacher_steps`, simulated pairs where there are some."""

    def __init__(
        self, unpaired: Slices, pairs: SimulatedHeads | None, train: Train, teacher_steps: int, device: torch.device, ranks: Ranks
    ) -> None:
        self.unpaired, self.train, self.teacher_steps, self.device, self.ranks = unpaired, train, teacher_steps, device, ranks
        self.pairs = pairs if train.teacher.weight else None
        self._ahead: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Inputs]] = {}
        if device.type == "cuda":
            room = whole = torch.cuda.mem_get_info(device)[0] // GPU_SHARE
            for slices in filter(None, (unpaired, self.pairs)):
                room = slices.hold(device, room)
            if room == whole:
                self._ahead = ThreadPoolExecutor(1, thread_name_prefix="feed")

    def inputs(self, step: int) -> Inputs:
        """The slices and pairs of `step` on the device: this process's part of the batch."""
        waiting = self._next.pop(step, None)
        batch, pairs = waiting.result() if waiting else self._make(step)
        if self._ahead:
            self._next = {step + 1: self._ahead.submit(self._make, step + 1)}
        return self._send(batch), self._send(pairs)

    def _make(self, step: int) -> Inputs:
        unpaired_step = step - self.teacher_steps
        batch = self._part(self.unpaired.batch(unpaired_step, self.train)) if unpaired_step >= 0 else None
        return batch, self._part(self.pairs.pairs(step, self.train)) if self.pairs else None

    def _part(self, batch: SomeBatch) -> SomeBatch:
        parts = (self.ranks.part(tensor) for tensor in vars(batch).values())
        return type(batch)(*(tensor.pin_memory() if self._ahead else tensor for tensor in parts))

    def _send(self, batch: SomeBatch | None) -> SomeBatch | None:
        if batch is None:
            return None
        return type(batch)(*(tensor.to(self.device, non_blocking=True) for tensor in vars(batch).values()))


def _flip(images: Tensor, which: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None].to(images.device), images.flip(-1), images)


def _vary(images: Tensor, train: Train, random: torch.Generator) -> Tensor:
    if train.crop:
        images = crop(images, train.crop, random)
    return move((images,), random)[0] if train.affine else images
