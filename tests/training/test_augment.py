"""Variations of slices."""

import pytest
import torch

from pipeline.training.data import crop, move


@pytest.fixture
def images() -> torch.Tensor:
    values = torch.full((2, 1, 32, 32), -1.0)
    values[:, :, 10:22, 8:20] = 0.4
    values[:, :, 14:18, 12:16] = 0.9
    return values


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_both_of_a_pair_move_alike(images: torch.Tensor) -> None:
    ct, mr = move((images, images * 0.5 - 0.5), seeded())
    torch.testing.assert_close(ct * 0.5 - 0.5, mr)
    assert not torch.equal(ct, images)
    assert not torch.allclose(ct[0], ct[1], atol=0.1)  # each line of a batch otherwise


def test_black_comes_in_from_outside(images: torch.Tensor) -> None:
    (result,) = move((torch.full_like(images, 0.8),), seeded(3))
    assert result.min() == pytest.approx(-1)
    assert result.max() <= 0.8 + 1e-6


def test_the_same_seed_gives_the_same(images: torch.Tensor) -> None:
    assert torch.equal(move((images,), seeded(5))[0], move((images,), seeded(5))[0])


def test_a_crop_enlarges_a_part(images: torch.Tensor) -> None:
    (cropped,) = crop((images,), 0.5, seeded(1))
    assert cropped.shape == images.shape
    assert (cropped > 0.2).sum() > (images > 0.2).sum()
