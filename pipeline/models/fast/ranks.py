"""The processes of one training, a device each: who is first, whose part of a batch is whose, what all must know."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import UserError


class Objective(nn.Module):
    """A loss as a module of the networks that it trains, which is what DistributedDataParallel takes."""

    def __init__(self, networks: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.networks = networks
        self.loss = loss

    def forward(self, *inputs: Any) -> Any:
        return self.loss(*inputs)


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`; only the first writes."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share_gradients(self, networks: nn.Module, loss: Callable[..., Any]) -> Callable[..., Any]:
        """`loss`, whose gradients of the weights of `networks` are averaged over all processes."""
        return loss if self.count == 1 else DistributedDataParallel(Objective(networks, loss), broadcast_buffers=False)

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

    def from_first(self, value: float) -> float:
        """The first process's `value`, in all of them."""
        if self.count == 1:
            return value
        message = torch.tensor(value, dtype=torch.float64)
        distributed.broadcast(message, 0)
        return float(message)

    def bytes_from_first(self, content: bytes) -> bytes:
        """The first process's `content`, in all of them."""
        if self.count == 1:
            return content
        message = torch.zeros(int(self.from_first(float(len(content)))), dtype=torch.uint8)
        if self.first and content:
            message = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        distributed.broadcast(message, 0)
        return message.numpy().tobytes()


ALONE = Ranks()


@contextmanager
def join_group() -> Iterator[Ranks]:
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
