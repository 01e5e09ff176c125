"""Earlier translations shown again to the discriminator, against oscillation (arXiv 1612.07828, as used in arXiv 1703.10593)."""

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """Holds up to `size` translations with their conditions; size 0 passes everything through."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: list[Tensor] = []
        self.conditions: list[Tensor] = []

    def exchange(self, images: Tensor, conditions: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Half of the time give an earlier image (1, H, W) in place of a new one, which then takes its place in the pool."""
        if not self.size:
            return images, conditions
        shown = [self._exchange_one(image, condition, random) for image, condition in zip(images, conditions, strict=True)]
        return torch.stack([image for image, _ in shown]), torch.stack([condition for _, condition in shown])

    def _exchange_one(self, image: Tensor, condition: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
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
        self.images, self.conditions = list(state["images"]), list(state["conditions"])
