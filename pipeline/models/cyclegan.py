"""One training step of CycleGAN (arXiv 1703.10593) with a teacher: simulated pairs whose truth is known (L1, both directions)."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import params
from pipeline.models.discriminator import build_discriminator
from pipeline.models.generator import build_generator
from pipeline.models.losses import adversarial_loss, discriminator_loss, l1_loss
from pipeline.models.pool import ImagePool


@dataclass(frozen=True)
class Batch:
    """Slices of both modalities, (N, 1, H, W) in [-1, 1], and the MR contrast, (N, 4)."""

    ct: Tensor
    mr: Tensor
    contrast: Tensor


@dataclass(frozen=True)
class Pairs(Batch):
    """Simulated pairs, pixel-aligned: `ct` and `mr` are the truth, `shown_ct` and `shown_mr` what the generators see of them."""

    shown_ct: Tensor
    shown_mr: Tensor


class CycleGAN:
    """Networks, optimisers and pools: everything that a step changes."""

    def __init__(self, model: params.Model, train: params.Train, device: torch.device) -> None:
        self.train = train
        self.generators = nn.ModuleDict({name: build_generator(model, name) for name in ("ct_to_mr", "mr_to_ct")})
        self.discriminators = nn.ModuleDict({name: build_discriminator(model, name) for name in ("ct", "mr")})
        for module in (*self.generators.modules(), *self.discriminators.modules()):
            initialise(module)
        self.generators.to(device)
        self.discriminators.to(device)
        self.ema = copy.deepcopy(self.generators).eval().requires_grad_(False)
        settings: dict[str, Any] = {"lr": train.learning_rate, "betas": (train.adam_beta1, 0.999)}
        self.generator_optimiser = torch.optim.Adam(self.generators.parameters(), **settings)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminators.parameters(), **settings)
        self.pools = {name: ImagePool(train.pool_size) for name in ("ct", "mr")}

    def teach(self, pairs: Pairs) -> dict[str, Tensor]:
        """One step on simulated pairs alone."""
        loss = self.teacher_loss(pairs)
        self._step(self.generator_optimiser, self.train.teacher.weight * loss)
        self._average()
        return {"teacher": loss.detach()}

    def step(self, batch: Batch, pairs: Pairs | None, random: torch.Generator) -> dict[str, Tensor]:
        """One step on unpaired slices, with the teacher's `pairs` kept on; gives the terms of the loss, detached and on the device."""
        losses, fake_ct, fake_mr = self.generator_losses(batch)
        weights = self.train
        total = (
            weights.lambda_adversarial * losses["adversarial"]
            + weights.lambda_cycle * losses["cycle"]
            + weights.lambda_cycle * weights.lambda_identity * losses["identity"]
        )
        if pairs is not None:
            losses["teacher"] = self.teacher_loss(pairs)
            total = total + weights.teacher.weight * losses["teacher"]
        self._step(self.generator_optimiser, total)
        self._average()
        fake_ct, contrast = self.pools["ct"].exchange(fake_ct.detach(), batch.contrast, random)
        losses["discriminator_ct"] = self._judge("ct", batch.ct, batch.contrast, fake_ct, contrast)
        fake_mr, contrast = self.pools["mr"].exchange(fake_mr.detach(), batch.contrast, random)
        losses["discriminator_mr"] = self._judge("mr", batch.mr, batch.contrast, fake_mr, contrast)
        self._step(self.discriminator_optimiser, losses["discriminator_ct"] + losses["discriminator_mr"])
        return {name: loss.detach() for name, loss in losses.items()}

    def generator_losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Adversarial, cycle and identity terms (sums over both directions), the fake CT and the fake MR.

        A generator's translated and identity images go through it in one batch: with instance norm that is the same mathematics.
        """
        to_mr, to_ct, count, wanted = self.generators["ct_to_mr"], self.generators["mr_to_ct"], len(batch.ct), batch.contrast
        same = self.train.lambda_identity > 0
        mr_out = to_mr(torch.cat([batch.ct, batch.mr]) if same else batch.ct, wanted.repeat(2, 1) if same else wanted)
        ct_out = to_ct(torch.cat([batch.mr, batch.ct]) if same else batch.mr)
        fake_mr, fake_ct = mr_out[:count], ct_out[:count]
        self.discriminators.requires_grad_(False)
        adversarial = adversarial_loss(self.discriminators["mr"](fake_mr, wanted), True) + adversarial_loss(
            self.discriminators["ct"](fake_ct, wanted), True
        )
        self.discriminators.requires_grad_(True)
        cycle = l1_loss(to_ct(fake_mr), batch.ct) + l1_loss(to_mr(fake_ct, wanted), batch.mr)
        identity = l1_loss(mr_out[count:], batch.mr) + l1_loss(ct_out[count:], batch.ct) if same else torch.zeros_like(cycle)
        return {"adversarial": adversarial, "cycle": cycle, "identity": identity}, fake_ct, fake_mr

    def teacher_loss(self, pairs: Pairs) -> Tensor:
        """L1 to the known truth, summed over both directions."""
        mr = self.generators["ct_to_mr"](pairs.shown_ct, pairs.contrast)
        return l1_loss(mr, pairs.mr) + l1_loss(self.generators["mr_to_ct"](pairs.shown_mr), pairs.ct)

    def set_learning_rate(self, rate: float) -> None:
        """The learning rate of both optimisers from the next step on."""
        for optimiser in (self.generator_optimiser, self.discriminator_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """All that a later step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "generators": self.generators,
            "discriminators": self.discriminators,
            "ema": self.ema,
            "generator_optimiser": self.generator_optimiser,
            "discriminator_optimiser": self.discriminator_optimiser,
            "pool_ct": self.pools["ct"],
            "pool_mr": self.pools["mr"],
        }

    def _judge(self, modality: str, real: Tensor, wanted: Tensor, fake: Tensor, fake_wanted: Tensor) -> Tensor:
        judge = self.discriminators[modality]
        return discriminator_loss(judge(real, wanted), judge(fake, fake_wanted))

    @staticmethod
    def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def _average(self) -> None:
        averages: list[Tensor] = list(self.ema.parameters())
        current: list[Tensor] = list(self.generators.parameters())
        torch._foreach_lerp_(averages, current, 1 - self.train.ema_decay)


def initialise(module: nn.Module) -> None:
    """Weights of convolutions from a normal distribution of standard deviation 0.02, biases zero (section 7.1 of the paper)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
