"""One update of an optimiser that leaves everything as it was where the loss or a gradient is no finite number."""

import torch
from torch import Tensor

from pipeline.models.ranks import ALONE, Ranks


def update(
    optimiser: torch.optim.Optimizer, loss: Tensor, clip: float, spoilt: Tensor | None = None, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Backward and step; gives the norm of all gradients and, as a bool tensor, whether the step was left out.

    `clip` above 0 scales gradients down to that norm; `spoilt` leaves the step out in any case. Nothing here makes a GPU wait:
    `optimiser` must be a fused one, which is told by a tensor.
    """
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    weights = [weight for group in optimiser.param_groups for weight in group["params"] if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights])
    bad = ranks.anywhere(~(torch.isfinite(norm) & torch.isfinite(loss.detach())))
    if spoilt is not None:
        bad = bad | spoilt
    if clip:
        torch.nn.utils.clip_grads_with_norm_(weights, clip, norm)
    optimiser.found_inf = bad.float()  # type: ignore[attr-defined]
    optimiser.step()
    torch.autograd.graph.increment_version(weights)  # a fused step does not count as a change, but what is kept of weights goes by it
    return norm, bad
