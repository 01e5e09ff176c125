"""A step of Adam, which leaves everything as it was where the loss or a gradient is no finite number, and never asks the device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.cyclegan import Loss
from pipeline.models.fast.adam import Adam
from pipeline.models.fast.ranks import ALONE, Ranks
from pipeline.models.fast.recorded import Recorded
from pipeline.params import Train


@dataclass(frozen=True)
class Update:
    """What a step gave: the loss, the norm of all gradients before clipping, and whether the step was left out (a bool tensor)."""

    loss: Loss
    gradient_norm: Tensor
    skipped: Tensor


class Minimiser:
    """Adam for `networks` and the `loss` that they are trained by; gradients are averaged over all processes."""

    def __init__(
        self, networks: nn.Module, loss: Callable[..., Loss], train: Train, ranks: Ranks = ALONE, all_networks: nn.Module | None = None
    ) -> None:
        """`all_networks`: every network that the loss runs, whose buffers change with it; left out where those are `networks` alone."""
        self.networks, self.ranks, self.clip = networks, ranks, train.clip_gradients
        self.all_networks = networks if all_networks is None else all_networks
        self.loss = ranks.share_gradients(networks, loss)
        self.optimiser = Adam(networks.parameters(), train.learning_rate, (train.adam_beta1, 0.999))
        self._rate: Tensor | None = None
        self._do: Callable[..., Update] = self._update

    def record(self, device: torch.device) -> None:
        """Replay steps from recordings (`Recorded`) from now on; the learning rate, which changes, then lies on `device`."""
        self._rate = torch.zeros((), device=device)
        self._do = Recorded(self._update)

    def set_learning_rate(self, rate: float) -> None:
        """The learning rate from the next step on."""
        self.optimiser.rate = rate if self._rate is None else self._rate.fill_(rate)

    def step(self, *inputs: Any, skip: Tensor | None = None) -> Update:
        """Forward, backward and update; left out where `skip` says so, or where loss or gradients are not finite in any process.

        A step that is left out changes neither weights, nor Adam's averages, nor buffers such as batch norm's statistics.
        """
        return self._do(*inputs, skip=skip)

    def _update(self, *inputs: Any, skip: Tensor | None = None) -> Update:
        buffers = [(buffer, buffer.clone()) for buffer in self.all_networks.buffers()]
        loss = self.loss(*inputs)
        self.optimiser.zero_grad()
        loss.total.backward()
        weights = [weight for weight in self.networks.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        bad = self.ranks.anywhere(~(torch.isfinite(norm) & torch.isfinite(loss.total.detach())))
        if skip is not None:
            bad = bad | skip
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(weights, self.clip, norm)
        self.optimiser.step(bad.float())
        torch.autograd.graph.increment_version(weights)  # a fused step counts as no change, but kept Winograd kernels go by that count
        for buffer, before in buffers:
            buffer.copy_(torch.where(bad, before, buffer))
        return Update(loss, norm, bad)
