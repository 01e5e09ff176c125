"""Generators as in CycleGAN (arXiv 1703.10593, after Johnson et al., arXiv 1603.08155): convolutions, residual blocks, upsampling."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline import params

CONTRASTS = ("t1", "t2", "flair", "pd")
BLOCKS = {"resnet_6": 6, "resnet_9": 9}


def block(width: int) -> nn.Sequential:
    """Two 3×3 convolutions with instance norm; the residual branch of one block."""
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width), nn.ReLU(),
        nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
    )  # fmt: skip


class Generator(nn.Module):
    """Maps (N, 1, H, W) in [-1, 1] to the same; `condition` (N, 4) is a probability of each MR contrast, zeros where unknown."""

    def __init__(self, blocks: int, width: int, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions
        norm, relu = nn.InstanceNorm2d, nn.ReLU
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1 + conditions, width, 7), norm(width), relu(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), norm(2 * width), relu(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1), norm(4 * width), relu(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(block(4 * width) for _ in range(blocks))
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 3, stride=2, padding=1, output_padding=1), norm(2 * width), relu(),
            nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1), norm(width), relu(),
            nn.ReflectionPad2d(3), nn.Conv2d(width, 1, 7), nn.Tanh(),
        )  # fmt: skip

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.conditions:
            known = image.new_zeros(len(image), self.conditions) if condition is None else condition.to(image)
            planes = known[:, :, None, None].expand(-1, -1, *image.shape[2:])
            image = torch.cat([image, planes], dim=1)
        hidden = self.encode(image)
        for residual in self.blocks:
            hidden = hidden + residual(hidden)
        result: Tensor = self.decode(hidden)
        return result


def build_generator(model: params.Model, direction: str) -> Generator:
    """The generator of `direction`, initialised by PyTorch's defaults; only CT→MR takes the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and direction == "ct_to_mr" else 0
    return Generator(BLOCKS[model.generator], model.generator_width, conditions)


def save_weights(path: Path, module: nn.Module) -> None:
    """Write the weights of `module` as safetensors, on the CPU and contiguous, so that the same weights give the same bytes."""
    save_file({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}, path)
