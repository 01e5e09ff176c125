"""One training step of CycleGAN (arXiv 1703.10593) with a teacher: simulated pairs whose truth is known (L1, both directions)."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import params
from pipeline.models.discriminator import build_discriminator
from pipeline.models.generator import build_generator
from pipeline.models.layers import initialise
from pipeline.models.losses import accuracy, discriminator_loss, generator_loss, gradient_penalty, l1_loss
from pipeline.models.pool import ImagePool
from pipeline.models.ranks import ALONE, Ranks
from pipeline.models.update import update

SIGNAL = "signal/"  # prefix of what is no loss but tells a collapse


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


class Objective(nn.Module):
    """A loss as a module of the networks that it trains, so that the processes of a training can share their gradients."""

    def __init__(self, networks: nn.ModuleDict, losses: Callable[..., Any]) -> None:
        super().__init__()
        self.networks = networks
        self.losses = losses

    def forward(self, *given: Any) -> Any:
        return self.losses(*given)


class CycleGAN:
    """Networks, optimisers and pools: everything that a step changes."""

    def __init__(self, model: params.Model, train: params.Train, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.train = train
        self.ranks = ranks
        self.batched = model.norm != "batch"  # with batch norm an image's result depends on its neighbours
        self.generators = nn.ModuleDict({name: build_generator(model, name) for name in ("ct_to_mr", "mr_to_ct")})
        self.discriminators = nn.ModuleDict({name: build_discriminator(model, name) for name in ("ct", "mr")})
        for module in (*self.generators.modules(), *self.discriminators.modules()):
            initialise(module, model.initialisation)
        for networks in (self.generators, self.discriminators):
            networks.to(device)
            if device.type == "cuda":
                networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.generators).eval().requires_grad_(False)
        if train.compile:
            for network in (*self.generators.values(), *self.discriminators.values()):
                network.compile()
        settings: dict[str, Any] = {"lr": train.learning_rate, "betas": (train.adam_beta1, 0.999), "fused": True}
        self.generator_optimiser = torch.optim.Adam(self.generators.parameters(), **settings)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminators.parameters(), **settings)
        self.pools = {name: ImagePool(train.pool_size) for name in ("ct", "mr")}
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps in a row that were left out
        self._objective = ranks.wrapped(Objective(self.generators, self._generators_total))
        self._judgement = ranks.wrapped(Objective(self.discriminators, self._discriminators_total))

    def teach(self, pairs: Pairs) -> dict[str, Tensor]:
        """One step on simulated pairs alone."""
        return self._update_generators(None, pairs)[0]

    def step(self, batch: Batch, pairs: Pairs | None, random: torch.Generator) -> dict[str, Tensor]:
        """One step on unpaired slices, with the teacher's `pairs` kept on; gives the terms of the loss, detached and on the device.

        Names that begin with SIGNAL are no losses: spread of translations relative to real slices, discriminators' accuracy, norms of
        gradients. A step whose loss or gradients are not finite changes nothing and counts in `skipped`.
        """
        buffers = [(buffer, buffer.clone()) for buffer in self.discriminators.buffers()]
        losses, fake_ct, fake_mr, bad = self._update_generators(batch, pairs)
        assert fake_ct is not None
        assert fake_mr is not None
        shown = {}
        for name, fake, real in (("ct", fake_ct, batch.ct), ("mr", fake_mr, batch.mr)):
            losses[f"{SIGNAL}spread_{name}"] = fake.detach().std() / real.std().clamp_min(1e-6)
            # What is no number must not get into the pool, from where it would come back.
            fakes, wanted = self.ranks.whole(fake.detach().nan_to_num()), self.ranks.whole(batch.contrast)
            shown[name] = tuple(self.ranks.part(part) for part in self.pools[name].exchange(fakes, wanted, random))
        share = None
        if self.train.gan_loss == "wgan_gp":
            share = self.ranks.part(torch.rand(len(batch.ct) * self.ranks.count, 1, 1, 1, generator=random)).to(batch.ct)
        total, judged = self._judgement(batch, shown, share)
        norm, _ = update(self.discriminator_optimiser, total, self.train.clip_gradients, bad, self.ranks)
        restore(buffers, bad)
        losses |= {name: loss.detach() for name, loss in judged.items()} | {f"{SIGNAL}gradient_discriminators": norm}
        return losses

    def generator_losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Adversarial, cycle and identity terms (sums over both directions), the fake CT and the fake MR.

        A generator's translated and identity images go through it in one batch where the norm makes that the same mathematics.
        """
        to_mr, to_ct, count, wanted = self.generators["ct_to_mr"], self.generators["mr_to_ct"], len(batch.ct), batch.contrast
        same = self.train.lambda_identity > 0
        together = same and self.batched
        mr_out = to_mr(torch.cat([batch.ct, batch.mr]) if together else batch.ct, wanted.repeat(2, 1) if together else wanted)
        ct_out = to_ct(torch.cat([batch.mr, batch.ct]) if together else batch.mr)
        fake_mr, fake_ct = mr_out[:count], ct_out[:count]
        self.discriminators.requires_grad_(False)
        adversarial = generator_loss(self.train.gan_loss, self.discriminators["mr"](fake_mr, wanted)) + generator_loss(
            self.train.gan_loss, self.discriminators["ct"](fake_ct, wanted)
        )
        self.discriminators.requires_grad_(True)
        cycle = l1_loss(to_ct(fake_mr), batch.ct) + l1_loss(to_mr(fake_ct, wanted), batch.mr)
        identity = torch.zeros_like(cycle)
        if same:
            same_mr, same_ct = (mr_out[count:], ct_out[count:]) if together else (to_mr(batch.mr, wanted), to_ct(batch.ct))
            identity = l1_loss(same_mr, batch.mr) + l1_loss(same_ct, batch.ct)
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
        return {name: part.state_dict() for name, part in self._parts().items()} | {"skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.skipped = state["skipped"].to(self.skipped)

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

    def _generators_total(self, batch: Batch | None, pairs: Pairs | None) -> tuple[Tensor, dict[str, Tensor], Tensor | None, Tensor | None]:
        """What the generators minimise, its terms, the fake CT and the fake MR."""
        weights, fake_ct, fake_mr = self.train, None, None
        losses: dict[str, Tensor] = {}
        terms = []
        if batch is not None:
            losses, fake_ct, fake_mr = self.generator_losses(batch)
            terms = [
                weights.lambda_adversarial * losses["adversarial"],
                weights.lambda_cycle * losses["cycle"],
                weights.lambda_cycle * weights.lambda_identity * losses["identity"],
            ]
        if pairs is not None:
            losses["teacher"] = self.teacher_loss(pairs)
            terms.append(weights.teacher.weight * losses["teacher"])
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total, losses, fake_ct, fake_mr

    def _discriminators_total(
        self, batch: Batch, shown: dict[str, tuple[Tensor, Tensor]], share: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the discriminators minimise, its terms and their accuracies; `shown` holds fakes and the contrasts wanted of them."""
        kind, judged = self.train.gan_loss, {}
        for name, real in (("ct", batch.ct), ("mr", batch.mr)):
            judge, (fake, fake_wanted) = self.discriminators[name], shown[name]
            if self.batched:
                real_scores, fake_scores = judge(torch.cat([real, fake.to(real)]), torch.cat([batch.contrast, fake_wanted])).chunk(2)
            else:
                real_scores, fake_scores = judge(real, batch.contrast), judge(fake, fake_wanted)
            loss = discriminator_loss(kind, real_scores, fake_scores)
            if share is not None:
                loss = loss + gradient_penalty(judge, real, fake, batch.contrast, share)
            judged[f"discriminator_{name}"] = loss
            judged[f"{SIGNAL}accuracy_{name}"] = accuracy(kind, real_scores.detach(), fake_scores.detach())
        return judged["discriminator_ct"] + judged["discriminator_mr"], judged

    def _update_generators(
        self, batch: Batch | None, pairs: Pairs | None
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor | None, Tensor]:
        """Losses, the fake CT and the fake MR, and whether the step was left out."""
        buffers = [(buffer, buffer.clone()) for buffer in self.generators.buffers()]  # batch norm's statistics; none with other norms
        total, losses, fake_ct, fake_mr = self._objective(batch, pairs)
        norm, bad = update(self.generator_optimiser, total, self.train.clip_gradients, None, self.ranks)
        restore(buffers, bad)
        self.skipped = torch.where(bad, self.skipped + 1, torch.zeros_like(self.skipped))
        self._average()
        losses = {name: loss.detach() for name, loss in losses.items()}
        return losses | {f"{SIGNAL}gradient_generators": norm}, fake_ct, fake_mr, bad

    @torch.no_grad()
    def _average(self) -> None:
        averages: list[Tensor] = list(self.ema.parameters())
        current: list[Tensor] = list(self.generators.parameters())
        torch._foreach_lerp_(averages, current, 1 - self.train.ema_decay)
        for average, buffer in zip(self.ema.buffers(), self.generators.buffers(), strict=True):
            average.copy_(average.lerp(buffer, 1 - self.train.ema_decay) if buffer.is_floating_point() else buffer)


def restore(buffers: list[tuple[Tensor, Tensor]], bad: Tensor) -> None:
    """Give each buffer back what it held before, where the step was left out."""
    for buffer, before in buffers:
        buffer.copy_(torch.where(bad, before, buffer))
