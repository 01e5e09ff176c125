"""What each step of a training is given, made on the device that trains or a step ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from pipeline import paths
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.fast.ranks import Ranks
from pipeline.params import Train
from pipeline.training.data import Slices
from pipeline.training.paired_slices import PairedSlices
from pipeline.training.simulated_pairs import SimulatedHeads

SomeBatch = TypeVar("SomeBatch", Batch, Pairs)
Inputs = tuple[Batch | None, Pairs | None, Pairs | None]
GPU_SHARE = 4  # a quarter of a GPU's free memory may go to slices


@dataclass(frozen=True)
class Data:
    """Slices to train and to validate on, and simulated pairs for both; either may be missing, but not both. `pairs`: registered ones."""

    train: Slices | None
    val: Slices | None
    teacher: SimulatedHeads | None
    teacher_val: SimulatedHeads | None
    pairs: PairedSlices | None = None
    pairs_val: PairedSlices | None = None

    @classmethod
    def load(cls, with_teacher: bool, folder: Path = paths.SLICES, with_slices: bool = True, with_pairs: bool = False) -> "Data":
        train, val = (Slices(kind, folder) if with_slices else None for kind in ("train", "val"))
        teacher, teacher_val = (SimulatedHeads(kind, folder) if with_teacher else None for kind in ("teacher", paths.HELD_OUT))
        slices = {"train": train, "val": val} if with_pairs else {}
        pairs = {split: PairedSlices(some, split, folder) for split, some in slices.items() if some}
        return cls(train, val, teacher, teacher_val, pairs.get("train") or None, pairs.get("val") or None)


class Feed:
    """What each step is given of `data`: simulated pairs always, registered ones from the step `registered_from` on, unpaired slices from
    `unpaired_from` on."""

    def __init__(
        self, data: Data, train: Train, device: torch.device, ranks: Ranks, registered_from: int = 0, unpaired_from: int = 0
    ) -> None:
        self.train, self.ranks, self.registered_from, self.unpaired_from = train, ranks, registered_from, unpaired_from
        self.unpaired, self.registered = data.train, data.pairs
        self.pairs = data.teacher if train.teacher.weight else None
        self._ahead: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Inputs]] = {}
        if device.type != "cpu":
            room = whole = torch.cuda.mem_get_info(device)[0] // GPU_SHARE
            for kind in (self.unpaired, self.pairs, self.registered):
                room = kind.hold(device, room) if kind else room
            if room == whole:
                self._ahead = ThreadPoolExecutor(1, thread_name_prefix="feed")

    def inputs(self, step: int) -> Inputs:
        """The slices, simulated and registered pairs of `step` on the device: this process's part of the batch."""
        waiting = self._next.pop(step, None)
        inputs = waiting.result() if waiting else self._make(step)
        if self._ahead:
            self._next = {step + 1: self._ahead.submit(self._make, step + 1)}
        return inputs

    def _make(self, step: int) -> Inputs:
        unpaired_step, registered_step = step - self.unpaired_from, step - self.registered_from
        batch = self._part(self.unpaired.batch(unpaired_step, self.train)) if self.unpaired and unpaired_step >= 0 else None
        pairs = self._part(self.pairs.pairs(step, self.train)) if self.pairs else None
        registered = self.registered if registered_step >= 0 else None
        return batch, pairs, self._part(registered.pairs(registered_step, self.train)) if registered else None

    def _part(self, batch: SomeBatch) -> SomeBatch:
        parts: dict[str, Any] = {name: None if tensor is None else self.ranks.part(tensor) for name, tensor in vars(batch).items()}
        return replace(batch, **parts)
