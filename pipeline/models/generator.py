"""Generators: residual blocks as in CycleGAN (arXiv 1703.10593, after arXiv 1603.08155), or a U-Net as in pix2pix (arXiv 1611.07004)."""

from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.models.architecture import BLOCKS, HALVINGS, count_conditions, unet_widths
from pipeline.models.layers import make_norm, make_upsampling, modulate
from pipeline.params import Model


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with norm, added to the input. The contrast scales and shifts what the first norm leaves.

    Conditional instance normalisation (arXiv 1610.07629). As constant input planes the contrast would be lost: instance norm takes out
    whatever is constant over the picture.
    """

    def __init__(self, width: int, conditions: int, norm: str) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), make_norm(norm, width))
        self.second = nn.Sequential(nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), make_norm(norm, width))
        self.modulate = nn.Linear(conditions, 2 * width, bias=False) if conditions else None

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        between = modulate(self.first(hidden), self.modulate, condition)
        result: Tensor = hidden + self.second(between)
        return result


class ResidualGenerator(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same; `condition` (N, 4) is a probability of each MR contrast, zeros where unknown."""

    def __init__(self, blocks: int, width: int, conditions: int, norm: str, upsampling: str) -> None:
        super().__init__()
        self.conditions = conditions
        relu = nn.ReLU
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), make_norm(norm, width), relu(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), make_norm(norm, 2 * width), relu(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), make_norm(norm, 4 * width), relu(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, conditions, norm) for _ in range(blocks))
        self.decode = nn.Sequential(
            make_upsampling(upsampling, 4 * width, 2 * width, 3), make_norm(norm, 2 * width), relu(),
            make_upsampling(upsampling, 2 * width, width, 3), make_norm(norm, width), relu(),
            nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = condition.to(image) if self.conditions and condition is not None else None
        hidden = self.encode(image)
        for block in self.blocks:
            hidden = block(hidden, condition)
        result: Tensor = self.decode(hidden)
        return result


class UNet(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same, H and W multiples of 2 ** `depth`; `condition` as for the residual generator.

    Halved down to a point or nearly so, and up again beside what was seen on the way down (arXiv 1611.07004, appendix 6.1).
    The contrast scales and shifts each layer on the way up.
    """

    def __init__(self, depth: int, width: int, conditions: int, norm: str, upsampling: str) -> None:
        super().__init__()
        self.conditions = conditions
        widths = unet_widths(depth, width)
        self.down, self.up, self.modulate = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(widths):
            layers: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            layers.append(nn.Conv2d(widths[level - 1] if level else 1, wide, 4, 2, 1))
            if 0 < level < depth - 1:  # a norm over a single pixel would leave nothing
                layers.append(make_norm(norm, wide))
            self.down.append(nn.Sequential(*layers))
        for level in reversed(range(depth)):
            wide = widths[level] * (1 if level == depth - 1 else 2)
            narrow = widths[level - 1] if level else 1
            up = [nn.ReLU(), make_upsampling(upsampling, wide, narrow, 4)]
            self.up.append(nn.Sequential(*up, make_norm(norm, narrow)) if level else nn.Sequential(*up))
            if level and conditions:
                self.modulate.append(nn.Linear(conditions, 2 * narrow, bias=False))

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        condition = condition.to(image) if self.conditions and condition is not None else None
        hidden, skips = image, []
        for down in self.down:
            hidden = down(hidden)
            skips.append(hidden)
        skips.pop()
        for level, up in enumerate(self.up[:-1]):
            hidden = modulate(up(hidden), self.modulate[level] if self.conditions else None, condition)  # type: ignore[arg-type]
            hidden = torch.cat([hidden, skips.pop()], dim=1)
        return torch.tanh(self.up[-1](hidden))


Generator = ResidualGenerator | UNet


def build_generator(model: Model, direction: str) -> Generator:
    """The generator of `direction`, initialised by PyTorch's defaults; only CT→MR takes the contrast."""
    choices = (model.generator_width, count_conditions(model, direction), model.norm, model.upsampling)
    if model.generator in HALVINGS:
        return UNet(HALVINGS[model.generator], *choices)
    return ResidualGenerator(BLOCKS[model.generator], *choices)


def save_weights(path: Path, module: nn.Module, half: bool = False) -> None:
    """Write the weights of `module` as safetensors, on the CPU and contiguous, so that the same weights give the same bytes.

    `half`: in half precision; loading brings them back to single.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    path.write_bytes(save({name: value.half() if half else value for name, value in weights.items()}))
