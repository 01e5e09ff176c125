"""The terms of CycleGAN (arXiv 1703.10593) as functions of tensors; all give a scalar."""

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 16  # pixels a side: large enough that noise alone finds no better shift
PENALTY = 10.0  # weight of the gradient penalty (arXiv 1704.00028, section 4)


def adversarial_loss(kind: str, scores: Tensor, real: bool) -> Tensor:
    """How far a map of scores is from calling its images `real`, or not.

    `lsgan`: mean squared distance from 1 or 0 (arXiv 1611.04076). `vanilla`: cross entropy (arXiv 1406.2661). `wgan_gp`: minus or plus the
    mean (arXiv 1704.00028). `hinge`: within 1 of the border only (arXiv 1705.02894).
    """
    scores = scores.float()  # a mean in bfloat16 has three digits
    if kind == "lsgan":
        return (scores - float(real)).square().mean()
    if kind == "vanilla":
        return functional.softplus(-scores if real else scores).mean()
    if kind == "wgan_gp":
        return -scores.mean() if real else scores.mean()
    return functional.relu(1 - scores if real else 1 + scores).mean()


def fooling_loss(kind: str, scores: Tensor) -> Tensor:
    """What the generator wants of the scores of its images: as real, and for `hinge` without the border, which would stop its gradient."""
    return adversarial_loss("wgan_gp" if kind == "hinge" else kind, scores, True)


def discriminator_loss(kind: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Both adversarial losses; half their sum, which slows the discriminator down (section 4 of the paper), but for `wgan_gp`."""
    both = adversarial_loss(kind, real_scores, True) + adversarial_loss(kind, fake_scores, False)
    return both if kind == "wgan_gp" else both / 2


def accuracy(kind: str, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Share of patches judged right, each by the side of the border that its score lies on."""
    border = 0.5 if kind == "lsgan" else 0.0
    return ((real_scores > border).float().mean() + (fake_scores < border).float().mean()) / 2


def gradient_penalty(discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, share: Tensor) -> Tensor:
    """Squared distance of the gradient's norm from 1 between `real` and `fake`, times 10 (arXiv 1704.00028); `share` (N, 1, 1, 1) 0..1."""
    between = torch.lerp(real, fake.to(real), share).requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(between, condition).float().sum(), between, create_graph=True)
    return PENALTY * (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def l1_loss(prediction: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute difference, of the shape's pixels weighted by `weight` where given: the cycle, identity and teacher losses."""
    if weight is None:
        return functional.l1_loss(prediction.float(), truth)
    return (weight * (prediction.float() - truth).abs()).mean()


def tolerant_l1_loss(prediction: Tensor, truth: Tensor, weight: Tensor | None, reach: int) -> Tensor:
    """As `l1_loss` of pairs that are registered to `reach` pixels: its mean with the error that is left after the best shift of each patch.

    Patches of PATCH × PATCH pixels overlap by half. Where the shifted truth is not known (its weight is 0), it counts unshifted. The best
    shift alone would leave it open where a translation lies.
    """
    if weight is None or not reach:
        return l1_loss(prediction, truth, weight)
    height, width = truth.shape[2:]
    around = functional.pad(truth, (reach,) * 4, mode="replicate")
    known = functional.pad(weight, (reach,) * 4)
    errors = []
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            place = (..., slice(down, down + height), slice(right, right + width))
            shifted = torch.where(known[place] > 0, around[place], truth)
            error = weight * (prediction.float() - shifted).abs()
            errors.append(functional.avg_pool2d(error, PATCH, PATCH // 2, ceil_mode=True, count_include_pad=False))
    return (l1_loss(prediction, truth, weight) + torch.stack(errors).amin(0).mean()) / 2
