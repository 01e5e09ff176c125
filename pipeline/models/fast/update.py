"""A step of Adam, which leaves everything as it was where the loss or a gradient is no finite number, and never asks the device."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.cyclegan import Loss
from pipeline.models.fast.ranks import ALONE, Ranks
from pipeline.models.fast.recorded import Recorded
from pipeline.params import Train

EPSILON = 1e-8  # of Adam


class Adam:
    """Adam (arXiv 1412.6980) over all weights in one fused call: what torch.optim.Adam(fused=True) does, to the bit.

    The first step of any of torch's optimisers imports torch's compiler, which takes seconds; a smoke training takes less.

    `state`: averages of each weight's gradient (`mean`) and of its square (`square`), and how many steps are in them.
    `rate`: the learning rate from the next step on, a number or a tensor on the weights' device.
    """

    def __init__(self, weights: Iterable[nn.Parameter], rate: float | Tensor, betas: tuple[float, float]) -> None:
        self.weights, self.rate, self.betas = list(weights), rate, betas
        self.state = {
            "mean": [torch.zeros_like(weight, memory_format=torch.preserve_format) for weight in self.weights],
            "square": [torch.zeros_like(weight, memory_format=torch.preserve_format) for weight in self.weights],
            "steps": [torch.zeros((), dtype=torch.float32, device=weight.device) for weight in self.weights],
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, skip: Tensor | None = None) -> None:
        """Update every weight that has a gradient; none where `skip`, a tensor, is 1: it is read on the device, which makes no GPU wait."""
        known = [number for number, weight in enumerate(self.weights) if weight.grad is not None]
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        mean, square, steps = ([self.state[name][number] for number in known] for name in ("mean", "square", "steps"))
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [self.weights[number] for number in known], gradients, mean, square, [], steps,
            lr=self.rate,  # type: ignore[arg-type]  # a number or a tensor: two overloads
            beta1=self.betas[0], beta2=self.betas[1], weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
            found_inf=skip,
        )  # fmt: skip
        if skip is not None:
            torch._foreach_sub_(steps, [skip] * len(steps))

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the numbers of a checkpoint, wherever it was loaded to. Raises ValueError where it is of other weights."""
        with torch.no_grad():
            for name, tensors in self.state.items():
                for mine, other in zip(tensors, state[name], strict=True):
                    mine.copy_(other)


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
