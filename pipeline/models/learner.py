"""One step of training: both losses of CycleGAN minimised, the generators averaged, earlier translations shown again."""

import copy
from typing import Any

import torch
from torch import Tensor

from pipeline.domain import MODALITIES
from pipeline.models.cyclegan import SIGNAL, Batch, CycleGAN, Loss, Pairs, Pooled
from pipeline.models.discriminator import ImagePool
from pipeline.models.fast import generator_on, speed_up
from pipeline.models.fast.ranks import ALONE, Ranks
from pipeline.models.fast.update import Minimiser
from pipeline.models.window import show_through_window
from pipeline.params import Model, Train


class Learner:
    """Everything that a step changes: networks, the average of the generators, optimisers, pools."""

    def __init__(self, model: Model, train: Train, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.train = train
        self.ranks = ranks
        self.networks = speed_up(CycleGAN(model, train), device)
        self.generators, self.discriminators = self.networks.generators, self.networks.discriminators
        self.average = copy.deepcopy(self.generators).eval().requires_grad_(False)
        if train.compile:
            for network in (*self.generators.values(), *self.discriminators.values()):
                network.compile()
        self.generator_minimiser = Minimiser(self.generators, self.networks.generator_loss, train, ranks, self.networks)
        self.discriminator_minimiser = Minimiser(self.discriminators, self.networks.discriminator_loss, train, ranks)
        if train.cuda_graphs and device.type == "cuda" and ranks.count == 1:
            for minimiser in (self.generator_minimiser, self.discriminator_minimiser):
                minimiser.record(device)
        self.pools = {modality: ImagePool(train.pool_size, device) for modality in MODALITIES}
        self.averaged = 0  # steps that are in the average
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)  # steps in a row that were left out

    def teach(self, pairs: Pairs | None, registered: Pairs | None = None) -> dict[str, Tensor]:
        """One step on simulated and registered pairs, or either; gives the terms of the loss, detached and on the device."""
        return self._step_generators(None, pairs, registered)[0]

    def step(self, batch: Batch, pairs: Pairs | None, random: torch.Generator, registered: Pairs | None = None) -> dict[str, Tensor]:
        """One step on unpaired slices, with the teacher's `pairs` and `registered` ones kept on; gives terms as `teach` does.

        `random` is of the CPU. Nothing here copies to or from the device, so no step makes it wait.
        Names that begin with SIGNAL are no losses: spread of translations relative to real slices, discriminators' accuracy, norms of
        gradients. A step whose loss or gradients are not finite changes nothing and counts in `skipped`.
        """
        terms, loss, skipped = self._step_generators(batch, pairs, registered)
        fakes = {}
        displayed_ct = show_through_window(batch.ct, batch.ct_window)
        for modality, fake, real in zip(MODALITIES, (loss.fake_ct, loss.fake_mr), (displayed_ct, batch.mr), strict=True):
            assert fake is not None
            terms[f"{SIGNAL}spread_{modality}"] = fake.detach().std() / real.std().clamp_min(1e-6)
            fakes[modality] = self._exchange(self.pools[modality], fake.detach(), batch.contrast, random)
        share = None
        if self.train.gan_loss == "wgan_gp":
            there = generator_on(batch.ct.device, int(torch.randint(2**62, (), generator=random)))
            share = self.ranks.part(torch.rand(len(batch.ct) * self.ranks.count, 1, 1, 1, generator=there, device=there.device))
        update = self.discriminator_minimiser.step(batch, fakes, share, skip=skipped)
        terms |= {name: term.detach() for name, term in update.loss.terms.items()}
        return terms | {f"{SIGNAL}gradient_discriminators": update.gradient_norm}

    def set_learning_rate(self, rate: float) -> None:
        """The learning rate of both optimisers from the next step on."""
        for minimiser in (self.generator_minimiser, self.discriminator_minimiser):
            minimiser.set_learning_rate(rate)

    def state_dict(self) -> dict[str, Any]:
        """All that a later step depends on."""
        counts = {"averaged": self.averaged, "skipped": self.skipped}
        return {name: part.state_dict() for name, part in self._parts().items()} | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.averaged = state["averaged"]
        self.skipped = state["skipped"].to(self.skipped)

    def _parts(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "average": self.average,
            "generator_optimiser": self.generator_minimiser.optimiser,
            "discriminator_optimiser": self.discriminator_minimiser.optimiser,
            **{f"pool_{modality}": pool for modality, pool in self.pools.items()},
        }

    def _step_generators(
        self, batch: Batch | None, pairs: Pairs | None, registered: Pairs | None
    ) -> tuple[dict[str, Tensor], Loss, Tensor]:
        """Detached terms, the loss, and whether the step was left out."""
        update = self.generator_minimiser.step(batch, pairs, registered)
        self.skipped = torch.where(update.skipped, self.skipped + 1, torch.zeros_like(self.skipped))
        self._average_generators()
        terms = {name: term.detach() for name, term in update.loss.terms.items()}
        return terms | {f"{SIGNAL}gradient_generators": update.gradient_norm}, update.loss, update.skipped

    def _exchange(self, pool: ImagePool, fakes: Tensor, contrast: Tensor, random: torch.Generator) -> Pooled:
        """This process's part of what the pool gives for the fakes of all processes."""
        # What is no number must not get into the pool, from where it would come back.
        whole = pool.exchange(self.ranks.whole(fakes.nan_to_num()), self.ranks.whole(contrast), random)
        return Pooled(*(self.ranks.part(tensor) for tensor in whole))

    @torch.no_grad()
    def _average_generators(self) -> None:
        """Moving average of the weights after each step so far; the first weights are not in it (bias correction of arXiv 1412.6980)."""
        self.averaged += 1
        share = (1 - self.train.ema_decay) / (1 - self.train.ema_decay**self.averaged)
        averages: list[Tensor] = list(self.average.parameters())
        current: list[Tensor] = list(self.generators.parameters())
        torch._foreach_lerp_(averages, current, share)
        for average, buffer in zip(self.average.buffers(), self.generators.buffers(), strict=True):
            average.copy_(average.lerp(buffer, share) if buffer.is_floating_point() else buffer)
