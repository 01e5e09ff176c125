"""Generators as in CycleGAN (arXiv 1703.10593, after Johnson et al., arXiv 1603.08155): convolutions, residual blocks, upsampling."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import params

CONTRASTS = ("t1", "t2", "flair", "pd")
BLOCKS = {"resnet_6": 6, "resnet_9": 9}


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with instance norm, added to the input. The contrast scales and shifts what the first norm leaves.

    Conditional instance normalisation (arXiv 1610.07629). As constant input planes the contrast would be lost: instance norm takes out
    whatever is constant over the picture.
    """

    def __init__(self, width: int, conditions: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))
        self.second = nn.Sequential(nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width))
        self.modulate = nn.Linear(conditions, 2 * width, bias=False) if conditions else None

    def forward(self, hidden: Tensor, condition: Tensor | None) -> Tensor:
        between = self.first(hidden)
        if self.modulate is not None and condition is not None:
            scale, shift = self.modulate(condition)[:, :, None, None].chunk(2, dim=1)
            between = between * (1 + scale) + shift
        result: Tensor = hidden + self.second(between)
        return result


class Generator(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same; `condition` (N, 4) is a probability of each MR contrast, zeros where unknown."""

    def __init__(self, blocks: int, width: int, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions
        norm, relu = nn.InstanceNorm2d, nn.ReLU
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1, width, 7), norm(width), relu(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), norm(2 * width), relu(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), norm(4 * width), relu(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(ResidualBlock(4 * width, conditions) for _ in range(blocks))
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1), norm(2 * width), relu(),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1), norm(width), relu(),
            nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        known = condition.to(image) if self.conditions and condition is not None else None
        hidden = self.encode(image)
        for block in self.blocks:
            hidden = block(hidden, known)
        result: Tensor = self.decode(hidden)
        return result


def build_generator(model: params.Model, direction: str) -> Generator:
    """The generator of `direction`, initialised by PyTorch's defaults; only CT→MR takes the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and direction == "ct_to_mr" else 0
    return Generator(BLOCKS[model.generator], model.generator_width, conditions)


def save_weights(path: Path, module: nn.Module) -> None:
    """Write the weights of `module` as safetensors, on the CPU and contiguous, so that the same weights give the same bytes."""
    save_file({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}, path)
