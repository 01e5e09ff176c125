"""The terms of CycleGAN (arXiv 1703.10593) as functions of tensors; all give a scalar."""

from torch import Tensor
from torch.nn import functional


def adversarial_loss(scores: Tensor, real: bool) -> Tensor:
    """Least squares GAN (arXiv 1611.04076): mean squared distance of the scores from 1 (`real`) or 0."""
    return (scores - float(real)).square().mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Half the sum of both adversarial losses, which slows the discriminator down against the generator (section 4 of the paper)."""
    return (adversarial_loss(real_scores, True) + adversarial_loss(fake_scores, False)) / 2


def l1_loss(result: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference: the cycle, identity and teacher losses."""
    return functional.l1_loss(result, wanted)
