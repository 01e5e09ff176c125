"""Each fast way against the plain one: convolutions, a whole training step, the update that leaves bad steps out."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.plain_step import as_pytorch
from pipeline.models.cyclegan import Batch, CycleGAN, Loss
from pipeline.models.fast import speed_up, winograd
from pipeline.models.fast.precision import allow_tf32
from pipeline.models.fast.thin import ThinConv2d
from pipeline.models.fast.update import Adam, Minimiser
from pipeline.models.fast.winograd import WideConv2d
from pipeline.models.generator import build_generator
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from tests.training.jobs import PARAMS

CPU = torch.device("cpu")


def with_gradients(layer: nn.Conv2d, image: Tensor) -> tuple[Tensor, ...]:
    """Result, and the gradients of image, weight and bias for a loss that weighs each pixel differently."""
    image = image.clone().requires_grad_()
    result = layer(image)
    weights = torch.rand(result.shape, generator=torch.Generator().manual_seed(3))
    return result, *torch.autograd.grad(result, (image, layer.weight, layer.bias), weights)


def apart(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).detach().abs().max() / theirs.detach().abs().max())


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "height", "width"), [(1, 128, 128, 4, 4), (2, 128, 160, 8, 12), (3, 160, 128, 16, 4)]
)
def test_result_and_gradients_agree(count: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    layer, image = WideConv2d(inputs, outputs, 3), torch.randn(count, inputs, height + 2, width + 2)
    assert layer.is_fast_for(image)
    for mine, theirs in zip(with_gradients(layer, image), with_gradients(as_pytorch(copy.deepcopy(layer)), image), strict=True):
        assert mine.shape == theirs.shape
        assert apart(mine, theirs) < 2e-5


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize(("kernel", "height", "width"), [(7, 12, 9), (4, 8, 8), (3, 3, 5)])
def test_a_single_channel(inputs: int, outputs: int, kernel: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    layer, image = ThinConv2d(inputs, outputs, kernel), torch.randn(2, inputs, height, width)
    assert layer.is_fast_for(image)
    for mine, theirs in zip(with_gradients(layer, image), with_gradients(as_pytorch(copy.deepcopy(layer)), image), strict=True):
        assert mine.shape == theirs.shape
        assert apart(mine, theirs) < 1e-5


def test_cached_kernels_follow_the_weights() -> None:
    """Changed in place, as by an optimiser; loaded; and in a copy, which keeps nothing of the first."""
    layer, image = WideConv2d(winograd.WIDE, winograd.WIDE, 3), torch.randn(1, winograd.WIDE, 6, 6)

    def right(layer: WideConv2d) -> bool:
        return apart(layer(image), as_pytorch(copy.deepcopy(layer))(image)) < 2e-5

    assert right(layer)
    cached = layer.transformed_kernels()
    assert layer.transformed_kernels() is cached
    twin = copy.deepcopy(layer)
    for changed in (layer, twin):
        with torch.no_grad():
            changed.weight.mul_(-1).add_(0.1)
        assert right(changed)
    layer.load_state_dict({name: torch.randn_like(value) for name, value in layer.state_dict().items()})
    assert right(layer)
    assert right(twin)
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    assert right(layer)
    with torch.inference_mode():
        inferred = WideConv2d(winograd.WIDE, winograd.WIDE, 3)
        assert right(inferred)
        inferred.weight.mul_(2)
        assert right(inferred)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 64), (64, 1)])
def test_a_single_channel_in_bfloat16(inputs: int, outputs: int) -> None:
    """No further from float32 than PyTorch's own convolution in bfloat16 is."""
    torch.manual_seed(0)
    layer, image = ThinConv2d(inputs, outputs, 7), torch.randn(2, inputs, 24, 24)
    plain = as_pytorch(copy.deepcopy(layer))
    exact = with_gradients(plain, image)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = with_gradients(layer, image), with_gradients(plain, image)
    for one, other, wanted in zip(mine, theirs, exact, strict=True):
        assert apart(one.float(), wanted) < max(1.5 * apart(other.float(), wanted), 1e-6)


def test_by_hand() -> None:
    """A kernel that is 1 in its upper left corner moves the picture by a pixel both ways."""
    layer = WideConv2d(winograd.WIDE, winograd.WIDE, 3, bias=False)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[:, :, 0, 0] = torch.eye(winograd.WIDE)
    image = torch.rand(1, winograd.WIDE, 10, 10)
    assert layer.is_fast_for(image)
    torch.testing.assert_close(layer(image), image[..., :-2, :-2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "side", "dtype"), [(16, 10, torch.float32), (128, 11, torch.float32), (128, 10, torch.float64)])
def test_elsewhere_it_is_pytorchs_own(channels: int, side: int, dtype: torch.dtype) -> None:
    layer, image = WideConv2d(channels, channels, 3, dtype=dtype), torch.rand(1, channels, side, side, dtype=dtype)
    assert torch.equal(layer(image), as_pytorch(copy.deepcopy(layer))(image))


def test_a_training_step_agrees() -> None:
    """Losses of two steps: the second's tell that the first's gradients were right."""
    torch.manual_seed(0)
    fast = Learner(PARAMS.model.model_copy(update={"generator_width": winograd.WIDE // 4}), PARAMS.train, CPU)
    plain = copy.deepcopy(fast)
    as_pytorch(plain.networks)
    images = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    batch = Batch(images[0], images[1], torch.eye(4)[:2], torch.tensor([WHOLE]).repeat(2, 1))
    for _ in range(2):
        mine, theirs = (learner.step(batch, None, torch.Generator().manual_seed(0)) for learner in (fast, plain))
        for name in ("adversarial", "cycle", "discriminator_ct", "discriminator_mr"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize(("generator", "width", "fast"), [("resnet_6", 32, 2 + 12), ("resnet_6", 16, 2), ("unet_128", 32, 0)])
def test_plain_networks_are_sped_up_in_place_and_keep_their_weights(generator: str, width: int, fast: int) -> None:
    torch.manual_seed(0)
    model = PARAMS.model.model_copy(update={"generator": generator, "generator_width": width})
    plain = build_generator(model, "ct_to_mr")
    assert not any(isinstance(layer, WideConv2d | ThinConv2d) for layer in plain.modules())
    weights, image = plain.state_dict(), torch.rand(1, 1, 128, 128) * 2 - 1
    with torch.no_grad():
        expected = plain(image, torch.eye(4)[:1])
        quick = speed_up(plain, CPU)
        torch.testing.assert_close(quick(image, torch.eye(4)[:1]), expected, rtol=1e-4, atol=1e-4)
    assert sum(isinstance(layer, WideConv2d | ThinConv2d) for layer in quick.modules()) == fast
    assert list(quick.state_dict()) == list(weights)
    assert all(value.data_ptr() == weights[name].data_ptr() for name, value in quick.state_dict().items())


def test_1x1_convolutions_stay_as_they_are() -> None:
    torch.manual_seed(0)
    networks = speed_up(CycleGAN(PARAMS.model.model_copy(update={"discriminator": "pixel"}), PARAMS.train), CPU)
    assert {type(layer) for layer in networks.discriminators.modules() if isinstance(layer, nn.Conv2d)} == {nn.Conv2d}


def weigh(weight: nn.Parameter, factor: float, clip: float = 0.0) -> Minimiser:
    holder = nn.Module()
    holder.register_parameter("weight", weight)
    train = PARAMS.train.model_copy(update={"learning_rate": 0.1, "clip_gradients": clip})
    return Minimiser(holder, lambda: Loss((factor * weight).sum(), {}), train)


def test_an_update_is_that_of_adam_clipped_and_left_out_where_not_finite() -> None:
    weight = nn.Parameter(torch.ones(4))
    update = weigh(weight, float("inf")).step()
    assert bool(update.skipped)
    assert torch.equal(weight.detach(), torch.ones(4))
    update = weigh(weight, 3.0, clip=0.5).step()
    assert (float(update.gradient_norm), bool(update.skipped)) == (6.0, False)
    assert float(weight.grad.norm()) == pytest.approx(0.5, rel=1e-4)
    assert float(weight.detach()[0]) == pytest.approx(0.9)
    assert bool(weigh(weight, 3.0).step(skip=torch.tensor(True)).skipped)
    assert float(weight.detach()[0]) == pytest.approx(0.9)


def test_fused_updates_are_those_of_plain_adam() -> None:
    fast, plain = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    minimiser = weigh(fast, 3.0)
    adam = torch.optim.Adam([plain], 0.1, (PARAMS.train.adam_beta1, 0.999), foreach=False)
    for _ in range(5):
        minimiser.step()
        adam.zero_grad()
        (3.0 * plain).sum().backward()
        adam.step()
    torch.testing.assert_close(fast, plain)


def test_updates_are_torchs_fused_adam_to_the_bit_left_out_and_resumed_alike() -> None:
    random = torch.Generator().manual_seed(3)
    first = [nn.Parameter(torch.randn(shape, generator=random)) for shape in ((5, 3), (4,), (2, 2))]
    weights, others = (list(copy.deepcopy(nn.ParameterList(first))) for _ in range(2))
    rate, betas = 0.1, (PARAMS.train.adam_beta1, 0.999)
    ours, theirs = Adam(weights, rate, betas), torch.optim.Adam(others, rate, betas, fused=True)
    for step in range(6):
        for weight, other in zip(weights[: 2 + step % 2], others, strict=False):  # the last weight has no gradient at first
            weight.grad = torch.randn(weight.shape, generator=random)
            other.grad = weight.grad.clone()
        theirs.found_inf = skip = torch.tensor(float(step == 2))
        ours.rate = theirs.param_groups[0]["lr"] = rate / (step + 1)
        ours.step(skip)
        theirs.step()
        assert all(torch.equal(*pair) for pair in zip(weights, others, strict=True))
        state = copy.deepcopy(ours.state_dict())
        ours = Adam(weights, rate, betas)
        ours.load_state_dict(state)
        ours.zero_grad()
        theirs.zero_grad()


def test_float32_is_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU convolutions would round to tf32 unless told."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    try:
        for wanted in (True, False):
            allow_tf32(wanted)
            assert torch.backends.cudnn.allow_tf32 is wanted
            assert (torch.get_float32_matmul_precision() == "highest") is not wanted
    finally:
        torch.set_float32_matmul_precision(before)
