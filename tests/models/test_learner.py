"""The step in one batch against a plain step written from the paper; networks' shapes; the pool."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.plain_step import as_pytorch, reference_update, with_plain_optimisers
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.discriminator import ImagePool, build_discriminator
from pipeline.models.generator import build_generator
from pipeline.models.inference import translate
from pipeline.models.learner import Learner
from pipeline.models.losses import adversarial_loss, discriminator_loss, l1_loss, tolerant_l1_loss
from pipeline.models.window import WHOLE, window_of_hu
from pipeline.params import Section
from pipeline.training.schedule import linear_rate
from tests.training.jobs import PARAMS


def changed(section: Section, **values: object) -> object:
    return section.model_copy(update=values)


@pytest.fixture(scope="module")
def batch() -> Batch:
    random = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, 1, 32, 32, generator=random) * 2 - 1
    return Batch(images[0], images[1], torch.eye(4)[:3], torch.tensor([WHOLE]).repeat(3, 1))


@pytest.fixture(scope="module")
def pairs(batch: Batch) -> Pairs:
    return Pairs(batch.ct, batch.mr, batch.contrast, batch.ct, batch.mr)


def fresh() -> Learner:
    torch.manual_seed(0)
    return Learner(PARAMS.model, PARAMS.train, torch.device("cpu"))


def test_one_step_agrees_with_the_paper(batch: Batch) -> None:
    fast, plain = fresh(), with_plain_optimisers(fresh())
    losses = fast.step(batch, None, torch.Generator().manual_seed(0))
    expected = reference_update(plain, batch)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=1e-5, atol=1e-6)
    for part in ("generators", "discriminators"):
        for mine, theirs in zip(getattr(fast, part).parameters(), getattr(plain, part).parameters(), strict=True):
            # Adam's first step is the sign of the gradient, so where it is all but zero, rounding decides: that is at most two steps apart.
            # A bias before an instance norm has no effect at all, so its gradient is nothing but rounding.
            apart = (mine - theirs).abs()
            assert apart.max() <= 2.01 * PARAMS.train.learning_rate
            assert mine.ndim == 1 or (apart > 1e-6).float().mean() < 0.05


def test_gradients_agree_with_the_paper(batch: Batch) -> None:
    fast, plain = fresh(), fresh()
    fast.networks.generator_loss(batch, None).terms["cycle"].backward()
    fake_mr, fake_ct = plain.generators["ct_to_mr"](batch.ct, batch.contrast), plain.generators["mr_to_ct"](batch.mr)
    loss = nn.L1Loss()
    (
        loss(plain.generators["mr_to_ct"](fake_mr), batch.ct) + loss(plain.generators["ct_to_mr"](fake_ct, batch.contrast), batch.mr)
    ).backward()
    for mine, theirs in zip(fast.generators.parameters(), plain.generators.parameters(), strict=True):
        # A bias before an instance norm has no effect: its gradient is rounding around zero.
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_bfloat16_is_as_near_to_the_paper_as_pytorchs_own(batch: Batch) -> None:
    """Losses within 2 % of float32, and the gradient of all weights at no wider an angle than the plain step's under autocast."""
    fast, plain, exact = fresh(), with_plain_optimisers(fresh()), with_plain_optimisers(fresh())
    as_pytorch(plain.generators)
    with torch.autocast("cpu", torch.bfloat16):
        losses = fast.step(batch, None, torch.Generator().manual_seed(0))
        reference_update(plain, batch)
    for name, value in reference_update(exact, batch).items():
        torch.testing.assert_close(losses[name], value.detach(), rtol=0.02, atol=1e-3)
    mine, theirs, wanted = (
        torch.cat([weight.grad.flatten() for weight in learner.generators.parameters() if weight.ndim > 1])
        for learner in (fast, plain, exact)
    )
    cosine = nn.functional.cosine_similarity
    assert float(cosine(mine, wanted, dim=0)) > float(cosine(theirs, wanted, dim=0)) - 0.03


def test_teaching_brings_the_known_truth_nearer(pairs: Pairs) -> None:
    learner = fresh()
    losses = [float(learner.teach(pairs)["teacher"]) for _ in range(12)]
    assert losses[-1] < losses[0]


class _Fixed(nn.Module):
    """Makes the same CT of every MR."""

    def __init__(self, ct: torch.Tensor) -> None:
        super().__init__()
        self.ct = nn.Parameter(ct)

    def forward(self, mr: torch.Tensor, contrast: torch.Tensor | None = None) -> torch.Tensor:
        return self.ct.expand(len(mr), -1, -1, -1)


@pytest.mark.parametrize("taught", [True, False])
def test_judges_of_pictures_draw_taught_air_nowhere(taught: bool, batch: Batch) -> None:
    """They see black where air is. A gradient of theirs that leads into the window alone would end in brain, step by step."""
    learner = Learner(PARAMS.model, changed(PARAMS.train, teacher=changed(PARAMS.train.teacher, images=int(taught))), torch.device("cpu"))
    air = learner.generators["mr_to_ct"] = _Fixed(torch.full((1, 1, 32, 32), -0.9))
    pictures = replace(batch, ct_window=torch.tensor([window_of_hu(0, 80)]).repeat(3, 1))
    learner.networks.generator_loss(pictures, None).terms["adversarial"].backward()
    assert bool(air.ct.grad is not None and air.ct.grad.any()) is not taught


def test_the_average_lags_behind_the_weights(pairs: Pairs) -> None:
    learner, steps = fresh(), []
    for _ in range(3):
        learner.teach(pairs)
        steps.append(copy.deepcopy(list(learner.generators.parameters())))
    decay = PARAMS.train.ema_decay
    for average, first, second, third in zip(learner.average.parameters(), *steps, strict=True):
        wanted = (decay**2 * first + decay * second + third) / (decay**2 + decay + 1)  # the random weights before them are not in it
        torch.testing.assert_close(average, wanted)


@pytest.mark.parametrize("name", ["resnet_6", "resnet_9"])
@pytest.mark.parametrize("condition", [True, False])
def test_generators_keep_the_shape(name: str, condition: bool) -> None:
    model = changed(PARAMS.model, generator=name, condition_on_contrast=condition)
    made = build_generator(model, "ct_to_mr")(torch.zeros(2, 1, 32, 48), torch.eye(4)[:2])
    assert made.shape == (2, 1, 32, 48)
    assert made.abs().max() <= 1


def test_only_the_way_to_mr_heeds_the_contrast() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 32, 32).numpy()
    to_mr, to_ct = (build_generator(PARAMS.model, direction).eval() for direction in ("ct_to_mr", "mr_to_ct"))
    assert abs(translate(to_mr, images, "t1") - translate(to_mr, images, "t2")).max() > 0.01  # more than rounding
    assert (translate(to_ct, images, "t1") == translate(to_ct, images, "t2")).all()


def test_translating_in_batches_changes_nothing() -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 32, 32).numpy()
    generator = build_generator(PARAMS.model, "mr_to_ct").eval()
    one_by_one, together = translate(generator, images, batch_size=1), translate(generator, images, batch_size=5)
    assert abs(one_by_one - together).max() < 1e-5
    assert 0 <= together.min() <= together.max() <= 1


def test_a_deeper_discriminator_sees_larger_patches() -> None:
    maps = [build_discriminator(changed(PARAMS.model, discriminator_layers=n), "ct")(torch.zeros(1, 1, 64, 64), None) for n in (1, 2, 3)]
    assert [tuple(one.shape[2:]) for one in maps] == [(30, 30), (14, 14), (6, 6)]


def test_losses_by_hand() -> None:
    assert float(adversarial_loss("lsgan", torch.tensor([0.0, 2.0]), True)) == 1.0
    assert float(adversarial_loss("lsgan", torch.tensor([0.0, 2.0]), False)) == 2.0
    assert float(discriminator_loss("lsgan", torch.tensor([0.5]), torch.tensor([0.5]))) == 0.25


def test_a_shift_within_reach_costs_half_of_one_beyond_it() -> None:
    random = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 1, 32, 32, generator=random)
    known = torch.ones_like(truth)
    known[..., :8] = 0
    for reach in (1, 2):
        for down in (-reach, 0, reach, reach + 1):
            prediction = truth.roll((down, 0), (-2, -1))
            share = tolerant_l1_loss(prediction, truth, known, reach) / l1_loss(prediction, truth, known).clamp_min(1e-6)
            # A shift costs half, and the rows that rolled in from the other edge are no shift.
            low, high = (0, 0.01) if down == 0 else (0.45, 0.65) if down <= reach else (0.75, 1.5)
            assert low <= float(share) < high
    assert tolerant_l1_loss(truth, truth.roll(1, -1), known, 0) == l1_loss(truth, truth.roll(1, -1), known)
    prediction = truth.roll(3, -2)
    spoilt = torch.where(known > 0, truth, torch.ones_like(truth))
    assert tolerant_l1_loss(prediction, truth, known, 2) == tolerant_l1_loss(prediction, spoilt, known, 2)


def test_the_pool_gives_earlier_images_back() -> None:
    pool, random = ImagePool(2, torch.device("cpu")), torch.Generator().manual_seed(0)
    conditions = torch.zeros(1, 4)
    given = [float(pool.exchange(torch.full((1, 1, 2, 2), float(i)), conditions, random)[0].mean()) for i in range(40)]
    assert given[:2] == [0.0, 1.0]
    assert all(shown <= i for i, shown in enumerate(given))
    assert 5 < sum(shown < i for i, shown in enumerate(given)) < 35


def test_a_pool_of_none_passes_through() -> None:
    images = torch.rand(2, 1, 2, 2)
    assert ImagePool(0, torch.device("cpu")).exchange(images, torch.zeros(2, 4), torch.Generator())[0] is images


def test_the_learning_rate_is_constant_then_falls_to_zero() -> None:
    assert [linear_rate(step, 10, 0.5, 1.0) for step in (0, 4, 5, 6, 9, 10)] == [1, 1, 1, 0.8, 0.2, 0]


def test_the_learning_rate_may_end_above_zero() -> None:
    assert [linear_rate(step, 4, 0.5, 1.0, 0.2) for step in (0, 2, 3, 4)] == pytest.approx([1, 1, 0.6, 0.2])


def test_large_slices_go_one_by_one_side_by_side_on_a_cpu_and_come_out_the_same() -> None:
    sizes: list[int] = []
    names: set[str] = set()
    generator = build_generator(PARAMS.model.model_copy(update={"generator_width": 2}), "mr_to_ct").eval()

    def look(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(given[0]))
        names.add(threading.current_thread().name)

    generator.register_forward_pre_hook(look)
    images = np.random.default_rng(0).random((5, 256, 256), np.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        together = translate(generator, images)
        assert torch.get_num_threads() == 2
        assert sizes == [1] * 5
        assert threading.current_thread().name not in names
        assert np.array_equal(together, np.concatenate([translate(generator, one[None]) for one in images]))
        translate(generator, images[:, :64, :64], batch_size=3)
        assert sizes[-2:] == [3, 2]
    finally:
        torch.set_num_threads(threads)


def test_a_wrong_picture_among_several_is_an_error() -> None:
    """What goes wrong in a part that is translated beside others is not lost."""
    generator = build_generator(PARAMS.model, "mr_to_ct").eval()
    generator.register_forward_pre_hook(lambda _, given: (_ for _ in ()).throw(ValueError("broken")))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="broken"):
            translate(generator, np.zeros((3, 256, 256), np.float32))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
