"""What each step of a training is given, made on the device that trains or a step ahead."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import torch

from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.fast.ranks import Ranks
from pipeline.params import Train
from pipeline.training.data import Slices
from pipeline.training.paired_slices import PairedSlices
from pipeline.training.simulated_pairs import SimulatedHeads

SomeBatch = TypeVar("SomeBatch", Batch, Pairs)
Inputs = tuple[Batch | None, Pairs | None, Pairs | None]
GPU_SHARE = 4  # a quarter of a GPU's free memory may go to slices


class Feed:
    """What each step is given: unpaired slices, simulated pairs and registered ones, where there are some.

    Unpaired slices begin with the step `unpaired_from`, registered pairs with `registered_from`.
    """

    def __init__(
        self,
        unpaired: Slices | None,
        pairs: SimulatedHeads | None,
        train: Train,
        unpaired_from: int,
        device: torch.device,
        ranks: Ranks,
        registered: PairedSlices | None = None,
        registered_from: int = 0,
    ) -> None:
        self.unpaired, self.train, self.unpaired_from, self.ranks = unpaired, train, unpaired_from, ranks
        self.pairs = pairs if train.teacher.weight else None
        self.registered, self.registered_from = registered, registered_from
        self._ahead: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Inputs]] = {}
        if device.type != "cpu":
            room = whole = torch.cuda.mem_get_info(device)[0] // GPU_SHARE
            room = unpaired.hold(device, room) if unpaired else room
            room = self.pairs.hold(device, room) if self.pairs else room
            room = self.registered.hold(device, room) if self.registered else room
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
