"""Batches where the step wants them: held on the GPU as bytes while they fit, else made one step ahead and sent from pinned memory."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from pipeline import params
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.ranks import Ranks
from pipeline.training.data import Slices

SomeBatch = TypeVar("SomeBatch", bound=Batch)
Given = tuple[Batch | None, Pairs | None]
SHARE = 4  # a quarter of a GPU's free memory may go to slices


class Feed:
    """What each step is given: unpaired slices after the first `taught` steps, simulated pairs where there are some."""

    def __init__(
        self, unpaired: Slices, pairs: Slices | None, train: params.Train, taught: int, device: torch.device, ranks: Ranks
    ) -> None:
        self.unpaired, self.train, self.taught, self.device, self.ranks = unpaired, train, taught, device, ranks
        self.pairs = pairs if train.teacher.weight else None
        self._ahead: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Given]] = {}
        if device.type == "cuda":
            room = whole = torch.cuda.mem_get_info(device)[0] // SHARE
            for slices in filter(None, (unpaired, self.pairs)):
                room = slices.hold(device, room)
            if room == whole:
                self._ahead = ThreadPoolExecutor(1, thread_name_prefix="feed")

    def at(self, step: int) -> Given:
        """The slices and pairs of `step` on the device: this process's part of the batch."""
        waiting = self._next.pop(step, None)
        batch, pairs = waiting.result() if waiting else self._make(step)
        if self._ahead:
            self._next = {step + 1: self._ahead.submit(self._make, step + 1)}
        return self._sent(batch), self._sent(pairs)

    def _make(self, step: int) -> Given:
        later = step - self.taught
        batch = self._part(self.unpaired.batch(later, self.train)) if later >= 0 else None
        return batch, self._part(self.pairs.pairs(step, self.train)) if self.pairs else None

    def _part(self, batch: SomeBatch) -> SomeBatch:
        parts = (self.ranks.part(tensor) for tensor in vars(batch).values())
        return type(batch)(*(tensor.pin_memory() if self._ahead else tensor for tensor in parts))

    def _sent(self, batch: SomeBatch | None) -> SomeBatch | None:
        if batch is None:
            return None
        return type(batch)(*(tensor.to(self.device, non_blocking=True) for tensor in vars(batch).values()))
