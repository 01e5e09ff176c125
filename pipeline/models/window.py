"""CT seen through a display window: of a picture that only knows what lies inside its window, nothing else may be compared.

CT is on the networks' scale, (N, 1, H, W) in [-1, 1]: twice `intensity.ct_to_unit` of its Hounsfield units, less one. That scale is
monotone, so a window is an interval of it, (N, 2) in [-1, 1], and (-1, 1) is the whole range, through which everything is as it is.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.imaging.intensity import ct_to_unit

Ends = tuple[float, float]
WHOLE: Ends = (-1.0, 1.0)


class _Clip(torch.autograd.Function):
    """`values` between `low` and `high`. Beyond the ends the gradient passes only where a step against it leads back inside.

    A plain clamp would leave a prediction that lies outside of a window there for ever, since it has no gradient.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(values > high, values < low)
        return torch.minimum(torch.maximum(values.float(), low), high)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (above, below) = gradients, ctx.saved_tensors
        outward = (above & (gradient < 0)) | (below & (gradient > 0))
        return gradient.masked_fill(outward, 0), None, None


def limit_to_window(ct: Tensor, window: Tensor | Ends, draw_in: bool = True) -> Tensor:
    """`ct` as a picture knows it that was stored through `window`: on the same scale, clipped to the window's ends.

    `draw_in`: whether what lies beyond them has a gradient that leads back inside, else it has none.
    """
    low, high = _ends(window, ct)
    if not draw_in:
        return torch.minimum(torch.maximum(ct.float(), low), high)
    result: Tensor = _Clip.apply(ct, low, high)  # type: ignore[no-untyped-call]
    return result


def show_through_window(ct: Tensor, window: Tensor | Ends, draw_in: bool = True) -> Tensor:
    """`ct` as it is displayed in `window`: -1 where it is black, 1 where it is white. `draw_in` as above."""
    low, high = _ends(window, ct)
    return (limit_to_window(ct, window, draw_in) - low) * (2 / (high - low)) - 1


def window_of_hu(low: float, high: float) -> Ends:
    """The window between two values in Hounsfield units, on the networks' scale."""
    black, white = 2 * ct_to_unit(np.array([low, high])) - 1
    return float(black), float(white)


SOFT_TISSUE = window_of_hu(0, 80)


def _ends(window: Tensor | Ends, ct: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high, (N, 1, 1, 1) or of one size for all, beside `ct`; float32 whatever the networks compute in."""
    if isinstance(window, Tensor):
        low, high = window[:, :, None, None, None].unbind(1)
        return low, high
    low, high = (torch.full((1, 1, 1, 1), end, device=ct.device) for end in window)
    return low, high
