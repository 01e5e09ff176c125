"""Adam (arXiv 1412.6980) over all weights in one fused call: what torch.optim.Adam(fused=True) does, to the bit.

The first step of any of torch's optimisers imports torch's compiler, which takes seconds; a smoke training takes less.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-8


class Adam:
    """The averages of each weight's gradient (`mean`) and of its square (`square`), and how many steps are in them.

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
