"""CycleGAN (arXiv 1703.10593) with a teacher: the networks, and the two losses that they are trained by.

Here stands the mathematics alone. learner.py minimises the losses; fast/ holds what only makes that faster.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.domain import DIRECTIONS, MODALITIES, Direction, Modality
from pipeline.models.discriminator import build_discriminator
from pipeline.models.generator import build_generator
from pipeline.models.layers import initialise
from pipeline.models.losses import accuracy, discriminator_loss, fooling_loss, gradient_penalty, l1_loss, tolerant_l1_loss
from pipeline.models.window import SOFT_TISSUE, limit_to_window, show_through_window
from pipeline.params import Model, Train

SIGNAL = "signal/"  # prefix of what is no loss but tells a collapse


@dataclass(frozen=True)
class Batch:
    """Slices of both modalities, (N, 1, H, W) in [-1, 1], the MR contrast, (N, 4), and what each CT slice knows, (N, 2) in [-1, 1].

    CT is on the scale of `intensity.ct_to_unit`. Between the ends of its window it knows its values; at them "at most" and "at least".
    """

    ct: Tensor
    mr: Tensor
    contrast: Tensor
    ct_window: Tensor


@dataclass(frozen=True)
class Pairs:
    """Pairs, simulated or registered: `ct` is the truth of `input_mr`, `mr` that of `input_ct`, pixel on pixel.

    Pictures (N, 1, H, W) in [-1, 1]. The weights of their pixels in the loss are around 1, 0 where the truth is not known; None: all alike.
    `ct_window` (N, 2) in [-1, 1]: what each `ct` knows, as in `Batch`; None: its whole range.
    """

    ct: Tensor
    mr: Tensor
    contrast: Tensor
    input_ct: Tensor
    input_mr: Tensor
    ct_weight: Tensor | None = None
    mr_weight: Tensor | None = None
    ct_window: Tensor | None = None


@dataclass(frozen=True)
class Pooled:
    """Translations shown to a discriminator, (N, 1, H, W), with the contrasts asked of them, (N, 4)."""

    images: Tensor
    contrast: Tensor


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, the terms it is made of, and the translations made on the way, the CT as it is displayed."""

    total: Tensor
    terms: dict[str, Tensor]
    fake_ct: Tensor | None = None
    fake_mr: Tensor | None = None


class CycleGAN(nn.Module):
    """Two generators, by direction, and two discriminators, by modality."""

    def __init__(self, model: Model, train: Train) -> None:
        super().__init__()
        self.train_params = train
        self.independent_images = model.norm != "batch"  # with batch norm an image's result depends on its neighbours
        self.generators = nn.ModuleDict({direction.value: build_generator(model, direction) for direction in DIRECTIONS})
        self.discriminators = nn.ModuleDict({modality.value: build_discriminator(model, modality) for modality in MODALITIES})
        for module in self.modules():
            initialise(module, model.initialisation)

    @property
    def to_mr(self) -> nn.Module:
        return self.generators[Direction.CT_TO_MR]

    @property
    def to_ct(self) -> nn.Module:
        return self.generators[Direction.MR_TO_CT]

    def generator_loss(self, batch: Batch | None, pairs: Pairs | None, registered: Pairs | None = None) -> Loss:
        """What the generators minimise on unpaired slices, simulated pairs and registered ones, what there is of them; each term is a sum
        over both directions."""
        weights = self.train_params
        adversarial = cycle = identity = teacher = paired = torch.zeros(())
        fake_ct = fake_mr = None
        terms: dict[str, Tensor] = {}
        if batch is not None:
            adversarial, cycle, identity, fake_ct, fake_mr = self.unpaired_terms(batch)
            terms = {"adversarial": adversarial, "cycle": cycle, "identity": identity}
        if pairs is not None:
            terms["teacher"] = teacher = self.teacher_term(pairs)
        if registered is not None:
            terms["pairs"] = paired = self.paired_term(registered)
        total = (
            weights.lambda_adversarial * adversarial
            + weights.lambda_cycle * cycle
            + weights.lambda_cycle * weights.lambda_identity * identity
            + weights.teacher.weight * teacher
            + weights.pairs.weight * paired
        )
        return Loss(total, terms, fake_ct, fake_mr)

    def unpaired_terms(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Adversarial, cycle and identity terms, the fake CT and the fake MR.

        CT is compared as it is displayed in each slice's own window, of which alone it knows something.
        """
        kind, contrast, window = self.train_params.gan_loss, batch.contrast, batch.ct_window
        displayed_ct = show_through_window(batch.ct, window)
        fake_mr, same_mr = self.translate_and_keep(self.to_mr, batch.ct, batch.mr, contrast)
        fake_ct, same_ct = self.translate_and_keep(self.to_ct, batch.mr, batch.ct, contrast)
        self.discriminators.requires_grad_(False)  # they are judges here, and learn in their own loss
        # The judges' gradient has either sign everywhere; were it to draw air and bone into the window alone, they would end there.
        draw_in = not self.train_params.teacher.images
        displayed_fake_ct = show_through_window(fake_ct, window, draw_in)
        adversarial = fooling_loss(kind, self.discriminators["mr"](fake_mr, contrast)) + fooling_loss(
            kind, self.discriminators["ct"](displayed_fake_ct, contrast)
        )
        self.discriminators.requires_grad_(True)
        cycle_ct = show_through_window(self.to_ct(fake_mr), window)
        # As a picture would hold it; outside the head, where MR is cleared to -1, pictures are air whatever their window.
        cycle_mr = self.to_mr(torch.where(batch.mr > -1, limit_to_window(fake_ct, window, draw_in), fake_ct), contrast)
        cycle = l1_loss(cycle_ct, displayed_ct) + l1_loss(cycle_mr, batch.mr)
        identity = torch.zeros_like(cycle)
        if same_mr is not None and same_ct is not None:
            identity = l1_loss(same_mr, batch.mr) + l1_loss(show_through_window(same_ct, window), displayed_ct)
        return adversarial, cycle, identity, displayed_fake_ct, fake_mr

    def translate_and_keep(self, generator: nn.Module, image: Tensor, target: Tensor, contrast: Tensor) -> tuple[Tensor, Tensor | None]:
        """Translations of `image`, and of `target`, which has the target's modality already; None where no identity loss is asked for.

        Both go through the generator in one call where the norm makes that the same mathematics.
        """
        if not self.train_params.lambda_identity:
            return generator(image, contrast), None
        if not self.independent_images:
            return generator(image, contrast), generator(target, contrast)
        fake, same = generator(torch.cat([image, target]), contrast.repeat(2, 1)).chunk(2)
        return fake, same

    def teacher_term(self, pairs: Pairs) -> Tensor:
        """L1 to the known truth. CT counts over its whole range, and as soft tissue is displayed, which is a tenth of that range."""
        mr, ct = self.to_mr(pairs.input_ct, pairs.contrast), self.to_ct(pairs.input_mr)
        soft_ct, soft_truth = show_through_window(ct, SOFT_TISSUE), show_through_window(pairs.ct, SOFT_TISSUE)
        return (
            l1_loss(mr, pairs.mr, pairs.mr_weight) + l1_loss(ct, pairs.ct, pairs.ct_weight) + l1_loss(soft_ct, soft_truth, pairs.ct_weight)
        )

    def paired_term(self, pairs: Pairs) -> Tensor:
        """As `teacher_term`, to the truth as far as real slices know it, and as exactly as they are registered.

        Shifts are forgiven in CT alone, where that helps. CT is compared between the ends of its window; outside the head, where it is
        cleared to -1, it is air whatever the window.
        """
        reach, window = self.train_params.pairs.tolerance, pairs.ct_window
        assert window is not None
        mr, ct = self.to_mr(pairs.input_ct, pairs.contrast), self.to_ct(pairs.input_mr)
        ct, truth = (torch.where(pairs.ct > -1, limit_to_window(image, window), image.float()) for image in (ct, pairs.ct))
        soft_ct, soft_truth = show_through_window(ct, SOFT_TISSUE), show_through_window(truth, SOFT_TISSUE)
        return (
            l1_loss(mr, pairs.mr, pairs.mr_weight)
            + tolerant_l1_loss(ct, truth, pairs.ct_weight, reach)
            + tolerant_l1_loss(soft_ct, soft_truth, pairs.ct_weight, reach)
        )

    def discriminator_loss(self, batch: Batch, fakes: dict[Modality, Pooled], share: Tensor | None) -> Loss:
        """What the discriminators minimise, its terms and their accuracies.

        `share` (N, 1, 1, 1) in 0..1 says where between real and fake the gradient is penalised, for `wgan_gp`.
        """
        kind, terms = self.train_params.gan_loss, {}
        displayed_ct = show_through_window(batch.ct, batch.ct_window)
        for modality, real in ((Modality.CT, displayed_ct), (Modality.MR, batch.mr)):
            discriminator, fake = self.discriminators[modality], fakes[modality]
            if self.independent_images:
                both = discriminator(torch.cat([real, fake.images.to(real)]), torch.cat([batch.contrast, fake.contrast]))
                real_scores, fake_scores = both.chunk(2)
            else:
                real_scores, fake_scores = discriminator(real, batch.contrast), discriminator(fake.images, fake.contrast)
            loss = discriminator_loss(kind, real_scores, fake_scores)
            if share is not None:
                loss = loss + gradient_penalty(discriminator, real, fake.images, batch.contrast, share)
            terms[f"discriminator_{modality}"] = loss
            terms[f"{SIGNAL}accuracy_{modality}"] = accuracy(kind, real_scores.detach(), fake_scores.detach())
        return Loss(terms["discriminator_ct"] + terms["discriminator_mr"], terms)
