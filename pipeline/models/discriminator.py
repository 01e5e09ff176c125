"""PatchGAN (arXiv 1611.07004): judges overlapping patches, as in CycleGAN (arXiv 1703.10593); or each pixel on its own."""

import torch
from torch import Tensor, nn

from pipeline import params
from pipeline.models.generator import CONTRASTS
from pipeline.models.layers import norm

WIDEST = 8  # feature maps grow with depth up to this many times the first layer's


class Discriminator(nn.Module):
    """(N, 1, H, W) in [-1, 1] to a map of scores, one a patch or pixel; high means real. `condition` as for the generator."""

    def __init__(self, layers: nn.Sequential, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions
        self.layers = layers

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        if self.conditions:
            planes = condition.to(image)[:, :, None, None].expand(-1, -1, *image.shape[2:])
            image = torch.cat([image, planes], dim=1)
        scores: Tensor = self.layers(image)
        return scores


def build_discriminator(model: params.Model, modality: str) -> Discriminator:
    """The discriminator of `modality`; only that of MR is told the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and modality == "mr" else 0
    make = patch_layers if model.discriminator == "patch" else pixel_layers
    return Discriminator(make(model, 1 + conditions), conditions)


def patch_layers(model: params.Model, channels: int) -> nn.Sequential:
    """`model.discriminator_layers` strided layers: the more, the larger a patch."""
    width = wide = model.discriminator_width
    stages: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for depth in range(1, model.discriminator_layers + 1):
        narrow, wide = wide, width * min(2**depth, WIDEST)
        stride = 2 if depth < model.discriminator_layers else 1
        stages += [nn.Conv2d(narrow, wide, 4, stride, 1), norm(model.norm, wide), nn.LeakyReLU(0.2)]
    return nn.Sequential(*stages, nn.Conv2d(wide, 1, 4, 1, 1))


def pixel_layers(model: params.Model, channels: int) -> nn.Sequential:
    """1×1 convolutions: sees brightness, no shapes."""
    width = model.discriminator_width
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 1), norm(model.norm, 2 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 1),
    )  # fmt: skip
