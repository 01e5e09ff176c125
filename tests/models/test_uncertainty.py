"""Where a translation is uncertain."""

import numpy as np
import torch
from torch import nn

from pipeline.models.inference import estimate_uncertainty


class Edges(nn.Module):
    """Answers alike wherever a thing lies, but not when it is mirrored: the difference to the left neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return ((image - image.roll(1, 3)) * self.weight).clamp(-1, 1)


class Same(Edges):
    def forward(self, image: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return image * self.weight


def picture() -> np.ndarray:
    image = np.zeros((1, 16, 16), np.float32)
    image[0, 5:9, 5:9] = 0.7
    return image


def test_a_network_that_moves_and_turns_with_its_input_is_certain() -> None:
    assert np.allclose(estimate_uncertainty(Same(), picture()), 0, atol=1e-4)


def test_uncertainty_is_where_mirroring_changes_the_answer_by_hand() -> None:
    uncertainty = estimate_uncertainty(Edges(), picture())
    # Left edge: a step beyond the range, so 1, in seven of eight answers; no step to the right neighbour, so 0.5, in the mirrored one.
    values = np.array([1.0] * 7 + [0.5])
    assert np.allclose(uncertainty[0, 5:9, 5], values.std(), atol=1e-5)
    assert uncertainty[0, 0, 0] == 0
