"""PatchGAN (arXiv 1611.07004): judges overlapping patches, as in CycleGAN (arXiv 1703.10593); or each pixel on its own.

Beside it the pool of earlier translations that it is shown again.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.domain import CONTRASTS, Modality
from pipeline.models.layers import make_norm
from pipeline.params import Model

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


def build_discriminator(model: Model, modality: str) -> Discriminator:
    """The discriminator of `modality`; only that of MR is told the contrast."""
    conditions = len(CONTRASTS) if model.condition_on_contrast and modality == Modality.MR else 0
    layers = patch_layers if model.discriminator == "patch" else pixel_layers
    return Discriminator(layers(model, 1 + conditions), conditions)


def patch_layers(model: Model, channels: int) -> nn.Sequential:
    """`model.discriminator_layers` strided layers: the more, the larger a patch."""
    width = wide = model.discriminator_width
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for depth in range(1, model.discriminator_layers + 1):
        narrow, wide = wide, width * min(2**depth, WIDEST)
        stride = 2 if depth < model.discriminator_layers else 1
        layers += [nn.Conv2d(narrow, wide, 4, stride, 1), make_norm(model.norm, wide), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(wide, 1, 4, 1, 1))


def pixel_layers(model: Model, channels: int) -> nn.Sequential:
    """1×1 convolutions: sees brightness, no shapes."""
    width = model.discriminator_width
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 1), make_norm(model.norm, 2 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 1),
    )  # fmt: skip


class ImagePool:
    """Holds up to `size` translations with their conditions; size 0 passes everything through.

    Earlier translations shown again keep the discriminator from oscillating (arXiv 1612.07828, as used in arXiv 1703.10593).
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self.device = device
        self.images: list[Tensor] = []
        self.conditions: list[Tensor] = []

    def exchange(self, images: Tensor, conditions: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Half of the time give an earlier image (1, H, W) in place of a new one, which then takes its place in the pool."""
        if not self.size:
            return images, conditions
        drawn = [self._exchange_image(image, condition, random) for image, condition in zip(images, conditions, strict=True)]
        return torch.stack([image for image, _ in drawn]), torch.stack([condition for _, condition in drawn])

    def _exchange_image(self, image: Tensor, condition: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            self.conditions.append(condition.clone())
            return image, condition
        place = int(torch.randint(2 * self.size, (), generator=random))
        if place >= self.size:
            return image, condition
        earlier = self.images[place], self.conditions[place]
        self.images[place], self.conditions[place] = image.clone(), condition.clone()
        return earlier

    def state_dict(self) -> dict[str, Any]:
        return {"images": list(self.images), "conditions": list(self.conditions)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a pool on any device to this pool's own."""
        self.images, self.conditions = ([tensor.to(self.device) for tensor in state[name]] for name in ("images", "conditions"))
