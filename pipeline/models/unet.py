"""U-Net generator as in pix2pix (arXiv 1611.07004, appendix 6.1): halved down to a point or nearly so, and up again with what was seen."""

import torch
from torch import Tensor, nn

from pipeline.models.layers import modulated, norm, upsample

WIDEST = 8  # feature maps grow with depth up to this many times the first layer's


class UNet(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same, H and W multiples of 2 ** `depth`; `condition` as for the residual generator.

    The contrast scales and shifts each layer on the way up.
    """

    def __init__(self, depth: int, width: int, conditions: int, norms: str, upsampling: str) -> None:
        super().__init__()
        self.conditions = conditions
        widths = [width * min(2**level, WIDEST) for level in range(depth)]
        self.down, self.up, self.modulate = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(widths):
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(widths[level - 1] if level else 1, wide, 4, 2, 1))
            if 0 < level < depth - 1:  # a norm over a single pixel would leave nothing
                layers.append(norm(norms, wide))
            self.down.append(nn.Sequential(*layers))
        for level in reversed(range(depth)):
            wide = widths[level] * (1 if level == depth - 1 else 2)
            narrow = widths[level - 1] if level else 1
            up = [nn.ReLU(), upsample(upsampling, wide, narrow, 4)]
            self.up.append(nn.Sequential(*up, norm(norms, narrow)) if level else nn.Sequential(*up))
            if level and conditions:
                self.modulate.append(nn.Linear(conditions, 2 * narrow, bias=False))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        known = condition.to(image) if self.conditions and condition is not None else None
        hidden, seen = image, []
        for down in self.down:
            hidden = down(hidden)
            seen.append(hidden)
        seen.pop()
        for place, up in enumerate(self.up[:-1]):
            hidden = modulated(up(hidden), self.modulate[place] if self.conditions else None, known)  # type: ignore[arg-type]
            hidden = torch.cat([hidden, seen.pop()], dim=1)
        return torch.tanh(self.up[-1](hidden))
