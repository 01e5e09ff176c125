"""The processes of one training, a device each: who is first, whose part of a batch is whose, what all must know."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import UserError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`; only the first writes."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrapped(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over all processes."""
        return module if self.count == 1 else DistributedDataParallel(module, broadcast_buffers=False)

    def part(self, batch: Tensor) -> Tensor:
        """This process's lines of the whole batch."""
        size = len(batch) // self.count
        return batch[self.rank * size : (self.rank + 1) * size]

    def whole(self, part: Tensor) -> Tensor:
        """The parts of all processes in order; no gradient passes."""
        if self.count == 1:
            return part
        parts = [torch.empty_like(part) for _ in range(self.count)]
        distributed.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def anywhere(self, flag: Tensor) -> Tensor:
        """Whether `flag`, a bool tensor, is set in any process."""
        if self.count == 1:
            return flag
        counted = flag.to(torch.int32)
        distributed.all_reduce(counted)
        return counted > 0

    def of_first(self, value: float) -> float:
        """The first process's `value`, in all of them."""
        if self.count == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(told, 0)
        return float(told)


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The group that torchrun started this process in, or this process alone."""
    if "LOCAL_RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        yield ALONE
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise UserError(
            "another process of this training is gone, so this one ends too; dvc repro goes on from the last checkpoint"
        ) from None
    finally:
        distributed.destroy_process_group()
