"""Every generator with every discriminator, GAN loss and norm: two steps each; what cannot be is refused by name."""

import itertools

import pytest
import torch

from pipeline import params
from pipeline.errors import UserError
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.generator import build_generator
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE, window_of_hu
from tests.training import jobs

SIZES = {"resnet_6": 32, "resnet_9": 32, "unet_128": 128, "unet_256": 256}
WINDOWS = torch.tensor([WHOLE, window_of_hu(0, 80)])
DISCRIMINATORS = ("patch", "pixel")
LOSSES = ("lsgan", "vanilla", "wgan_gp", "hinge")
NORMS = ("instance", "batch", "none")
SOME = {"instance": [("patch", "lsgan"), ("pixel", "wgan_gp")], "batch": [("patch", "hinge")], "none": [("pixel", "vanilla")]}


def chosen(size: int = 32, **knobs: object) -> params.Params:
    """The tests' params with `knobs` put into the section that has them."""
    content = jobs.PARAMS.model_dump(by_alias=True)
    content["preprocess"]["pixels"] = size
    content["model"] |= {"generator_width": 2, "discriminator_width": 2}
    for name, value in knobs.items():
        content["model" if name in content["model"] else "train"][name] = value
    return params.parse(content, "params.yaml")


def learner_of(chosen_params: params.Params) -> Learner:
    torch.manual_seed(0)
    return Learner(chosen_params.model, chosen_params.train, torch.device("cpu"))


def inputs(size: int = 32) -> tuple[Batch, Pairs]:
    images = torch.rand(2, 2, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    contrast = torch.eye(4)[:2]
    return Batch(images[0], images[1], contrast, WINDOWS), Pairs(images[0], images[1], contrast, images[0], images[1])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # these networks are so small that threads only wait for each other
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("generator", SIZES)
def test_two_steps_of_every_combination(generator: str, norm: str) -> None:
    """Of the smallest generator with all; of the larger ones, which give pictures alike, each discriminator and loss with some norm."""
    size = SIZES[generator]
    batch, pairs = inputs(size)
    every = itertools.product(DISCRIMINATORS, LOSSES)
    for discriminator, gan_loss in every if generator == "resnet_6" else SOME[norm]:
        if (norm, gan_loss) == ("batch", "wgan_gp"):
            continue  # refused, see below
        knobs = {"generator": generator, "norm": norm, "discriminator": discriminator, "gan_loss": gan_loss}
        if norm == "none":
            knobs["initialisation"] = "kaiming"  # else gradients of a deep U-Net are too small for Adam to see
        learner = learner_of(chosen(size, **knobs))
        before = [weight.clone() for part in (learner.generators, learner.discriminators) for weight in part.parameters()]
        for step in range(2):
            losses = learner.step(batch, pairs, torch.Generator().manual_seed(step))
        assert all(torch.isfinite(loss) for loss in losses.values()), knobs
        assert int(learner.skipped) == 0
        after = [weight for part in (learner.generators, learner.discriminators) for weight in part.parameters()]
        assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True) if old.ndim > 1), knobs


@pytest.mark.parametrize(
    ("message", "size", "knobs"),
    [
        ("model.generator = unet_128 needs preprocess.pixels in multiples of 128", 64, {"generator": "unet_128"}),
        ("model.generator = unet_256 needs preprocess.pixels in multiples of 256", 128, {"generator": "unet_256"}),
        ("model.discriminator_layers = 5", 32, {"discriminator_layers": 5}),
        ("train.gan_loss = wgan_gp", 32, {"gan_loss": "wgan_gp", "norm": "batch"}),
        ("model.norm = batch needs the whole batch on one device", 32, {"norm": "batch", "devices": 2}),
        ("batch_size = 2 cannot be shared by devices = 3", 32, {"devices": 3}),
        ("precision = tf32", 32, {"precision": "tf32"}),
        ("train.seed = 4294967296", 32, {"seed": 2**32}),
        ("compile = true", 32, {"compile": True, "gan_loss": "wgan_gp"}),
        ("generator = 'unet_64'", 64, {"generator": "unet_64"}),
    ],
)
def test_what_cannot_be_is_refused_by_name(message: str, size: int, knobs: dict[str, object]) -> None:
    with pytest.raises(UserError, match=message):
        chosen(size, **knobs)


@pytest.mark.parametrize("generator", ["resnet_6", "unet_128"])
def test_resize_convolutions_leave_no_checkerboard(generator: str) -> None:
    """Of a flat picture, transposed convolutions with random weights make a pattern of period two, resize-convolutions none."""
    uneven = {}
    for upsampling in ("transpose", "resize"):
        torch.manual_seed(0)
        model = chosen(128, generator=generator, upsampling=upsampling, norm="none", initialisation="kaiming", generator_width=4).model
        with torch.no_grad():
            middle = build_generator(model, "mr_to_ct")(torch.full((1, 1, 128, 128), 0.5))[..., 40:88, 40:88]
        uneven[upsampling] = float((middle[..., 1:] - middle[..., :-1]).abs().mean())
    assert uneven["resize"] < uneven["transpose"] / 10


@pytest.mark.parametrize("kind", ["normal", "xavier", "kaiming", "orthogonal"])
def test_initialisations_have_their_spread(kind: str) -> None:
    weight = learner_of(chosen(initialisation=kind, generator_width=16)).generators["mr_to_ct"].blocks[0].first[1].weight.detach()
    fan = 64 * 9
    expected = {"normal": 0.02, "xavier": (2 / (2 * fan)) ** 0.5, "kaiming": (2 / fan) ** 0.5, "orthogonal": (1 / fan) ** 0.5}
    assert float(weight.std()) == pytest.approx(expected[kind], rel=0.1)


@pytest.mark.parametrize("generator", ["resnet_6", "unet_128"])
def test_every_generator_heeds_the_contrast(generator: str) -> None:
    torch.manual_seed(0)
    network = build_generator(chosen(128, generator=generator).model, "ct_to_mr").eval()
    image = torch.rand(1, 1, 128, 128)
    assert (network(image, torch.eye(4)[:1]) - network(image, torch.eye(4)[1:2])).abs().max() > 0.01


def test_with_batch_norm_images_go_alone_and_statistics_are_averaged() -> None:
    learner = learner_of(chosen(norm="batch"))
    assert not learner.networks.independent_images
    steps = []
    for _ in range(2):
        learner.step(*inputs(), torch.Generator())
        steps.append({name: value.clone() for name, value in learner.generators.named_buffers()})
    first, second = steps
    for name, value in learner.average.named_buffers():
        decay = learner.train.ema_decay if value.is_floating_point() else 0.0
        torch.testing.assert_close(value, ((decay * first[name] + second[name]) / (decay + 1)).to(value.dtype))


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_a_step_that_is_not_finite_changes_nothing(norm: str) -> None:
    learner = learner_of(chosen(norm=norm))
    batch, pairs = inputs()
    learner.step(batch, pairs, torch.Generator())
    before = {name: value.clone() for name, value in (learner.generators.state_dict() | learner.discriminators.state_dict()).items()}
    broken = Batch(batch.ct * float("nan"), batch.mr, batch.contrast, batch.ct_window)
    for count in (1, 2):
        learner.step(broken, pairs, torch.Generator())
        assert int(learner.skipped) == count
    after = learner.generators.state_dict() | learner.discriminators.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(torch.isfinite(image).all() for pool in learner.pools.values() for image in pool.images)
    learner.step(batch, pairs, torch.Generator())
    assert int(learner.skipped) == 0
