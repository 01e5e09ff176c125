"""PatchGAN (arXiv 1611.07004): judges overlapping patches, as in CycleGAN (arXiv 1703.10593)."""

import torch
from torch import Tensor, nn

from pipeline import params
from pipeline.models.generator import CONTRASTS

WIDEST = 8  # feature maps grow with depth up to this many times the first layer's


class Discriminator(nn.Module):
    """(N, 1, H, W) in [-1, 1] to a map of scores, one a patch; high means real. `condition` as for the generator."""

    def __init__(self, layers: int, width: int, conditions: int) -> None:
        super().__init__()
        self.conditions = conditions
        stages: list[nn.Module] = [nn.Conv2d(1 + conditions, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        wide = width
        for depth in range(1, layers + 1):
            narrow, wide = wide, width * min(2**depth, WIDEST)
            stride = 2 if depth < layers else 1
            stages += [nn.Conv2d(narrow, wide, 4, stride, 1), nn.InstanceNorm2d(wide), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*stages, nn.Conv2d(wide, 1, 4, 1, 1))

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        if self.conditions:
            planes = condition.to(image)[:, :, None, None].expand(-1, -1, *image.shape[2:])
            image = torch.cat([image, planes], dim=1)
        scores: Tensor = self.layers(image)
        return scores


def build_discriminator(model: params.Model, modality: str) -> Discriminator:
    """The discriminator of `modality`; only that of MR is told the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and modality == "mr" else 0
    return Discriminator(model.discriminator_layers, model.discriminator_width, conditions)
