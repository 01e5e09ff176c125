"""The step as the paper writes it, term by term with PyTorch's own convolutions and Adam: what the fast step is held to."""

import torch
from torch import nn

from pipeline.models.cyclegan import Batch
from pipeline.models.fast.thin import ThinConv2d
from pipeline.models.fast.winograd import WideConv2d
from pipeline.models.learner import Learner


def as_pytorch(network: nn.Module) -> nn.Module:
    """`network`, in which from now on every convolution is PyTorch's own."""
    for layer in network.modules():
        if isinstance(layer, WideConv2d | ThinConv2d):
            layer.__class__ = nn.Conv2d
    return network


def with_plain_optimisers(learner: Learner) -> Learner:
    """`learner` with PyTorch's Adam as it comes, weight by weight."""
    for minimiser in (learner.generator_minimiser, learner.discriminator_minimiser):
        settings = {"lr": learner.train.learning_rate, "betas": (learner.train.adam_beta1, 0.999)}
        minimiser.optimiser = torch.optim.Adam(minimiser.networks.parameters(), **settings, foreach=False)
    return learner


def reference_update(learner: Learner, batch: Batch) -> dict[str, torch.Tensor]:
    """One generator and one discriminator update, term by term as in arXiv 1703.10593, each image through its network on its own."""
    to_mr, to_ct = learner.generators["ct_to_mr"], learner.generators["mr_to_ct"]
    judge_mr, judge_ct = learner.discriminators["mr"], learner.discriminators["ct"]
    train, squared, absolute = learner.train, nn.MSELoss(), nn.L1Loss()
    fake_mr, fake_ct = to_mr(batch.ct, batch.contrast), to_ct(batch.mr)
    score_mr, score_ct = judge_mr(fake_mr, batch.contrast), judge_ct(fake_ct, batch.contrast)
    adversarial = squared(score_mr, torch.ones_like(score_mr)) + squared(score_ct, torch.ones_like(score_ct))
    cycle = absolute(to_ct(fake_mr), batch.ct) + absolute(to_mr(fake_ct, batch.contrast), batch.mr)
    identity = absolute(to_mr(batch.mr, batch.contrast), batch.mr) + absolute(to_ct(batch.ct), batch.ct)
    total = train.lambda_adversarial * adversarial + train.lambda_cycle * cycle + train.lambda_cycle * train.lambda_identity * identity
    learner.generator_minimiser.optimiser.zero_grad()
    total.backward()
    learner.generator_minimiser.optimiser.step()
    learner.discriminator_minimiser.optimiser.zero_grad()
    terms = {}
    for name, judge, real, fake in (("ct", judge_ct, batch.ct, fake_ct), ("mr", judge_mr, batch.mr, fake_mr)):
        real_scores, fake_scores = judge(real, batch.contrast), judge(fake.detach(), batch.contrast)
        terms[f"discriminator_{name}"] = (
            squared(real_scores, torch.ones_like(real_scores)) + squared(fake_scores, torch.zeros_like(fake_scores))
        ) / 2
    sum(terms.values()).backward()
    learner.discriminator_minimiser.optimiser.step()
    return {"adversarial": adversarial, "cycle": cycle, "identity": identity, **terms}
