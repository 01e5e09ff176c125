"""Convolutions by other ways against PyTorch's own, and a whole training step with them against one without."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pipeline.models import winograd
from pipeline.models.cyclegan import Batch, CycleGAN
from pipeline.models.thin import ThinConv2d
from pipeline.models.winograd import WideConv2d
from tests.training.jobs import PARAMS

CPU = torch.device("cpu")


def with_gradients(layer: nn.Conv2d, image: Tensor) -> tuple[Tensor, ...]:
    """Result, and the gradients of image, weight and bias for a loss that weighs each pixel differently."""
    image = image.clone().requires_grad_()
    made = layer(image)
    asked = torch.rand(made.shape, generator=torch.Generator().manual_seed(3))
    return made, *torch.autograd.grad(made, (image, layer.weight, layer.bias), asked)


def apart(mine: Tensor, theirs: Tensor) -> float:
    return float((mine - theirs).detach().abs().max() / theirs.detach().abs().max())


def as_pytorch(network: nn.Module) -> nn.Module:
    """`network`, in which from now on every convolution is PyTorch's own."""
    for layer in network.modules():
        if isinstance(layer, WideConv2d | ThinConv2d):
            layer.__class__ = nn.Conv2d
    return network


@pytest.mark.parametrize(
    ("count", "inputs", "outputs", "height", "width"), [(1, 128, 128, 4, 4), (2, 128, 160, 8, 12), (3, 160, 128, 16, 4)]
)
def test_result_and_gradients_agree(count: int, inputs: int, outputs: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    layer, image = WideConv2d(inputs, outputs, 3), torch.randn(count, inputs, height + 2, width + 2)
    assert layer._pays(image)
    for mine, theirs in zip(with_gradients(layer, image), with_gradients(as_pytorch(copy.deepcopy(layer)), image), strict=True):
        assert mine.shape == theirs.shape
        assert apart(mine, theirs) < 2e-5


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize(("kernel", "height", "width"), [(7, 12, 9), (4, 8, 8), (3, 3, 5)])
def test_a_single_channel(inputs: int, outputs: int, kernel: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    layer, image = ThinConv2d(inputs, outputs, kernel), torch.randn(2, inputs, height, width)
    assert layer._pays(image)
    for mine, theirs in zip(with_gradients(layer, image), with_gradients(as_pytorch(copy.deepcopy(layer)), image), strict=True):
        assert mine.shape == theirs.shape
        assert apart(mine, theirs) < 1e-5


def test_kept_kernels_follow_the_weights() -> None:
    """Changed in place, as by an optimiser; loaded; and in a copy, which keeps nothing of the first."""
    layer, image = WideConv2d(winograd.WIDE, winograd.WIDE, 3), torch.randn(1, winograd.WIDE, 6, 6)

    def right(of: WideConv2d) -> bool:
        return apart(of(image), as_pytorch(copy.deepcopy(of))(image)) < 2e-5

    assert right(layer)
    kept = layer._kernels()
    assert layer._kernels() is kept
    twin = copy.deepcopy(layer)
    for of in (layer, twin):
        with torch.no_grad():
            of.weight.mul_(-1).add_(0.1)
        assert right(of)
    layer.load_state_dict({name: torch.randn_like(value) for name, value in layer.state_dict().items()})
    assert right(layer)
    assert right(twin)
    layer.weight = nn.Parameter(torch.randn_like(layer.weight))
    assert right(layer)
    with torch.inference_mode():
        made = WideConv2d(winograd.WIDE, winograd.WIDE, 3)
        assert right(made)
        made.weight.mul_(2)
        assert right(made)


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
    assert layer._pays(image)
    torch.testing.assert_close(layer(image), image[..., :-2, :-2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "side", "dtype"), [(16, 10, torch.float32), (128, 11, torch.float32), (128, 10, torch.float64)])
def test_elsewhere_it_is_pytorchs_own(channels: int, side: int, dtype: torch.dtype) -> None:
    layer, image = WideConv2d(channels, channels, 3, dtype=dtype), torch.rand(1, channels, side, side, dtype=dtype)
    assert torch.equal(layer(image), as_pytorch(copy.deepcopy(layer))(image))


def test_a_training_step_agrees() -> None:
    """Losses of two steps: the second's tell that the first's gradients were right."""
    torch.manual_seed(0)
    fast = CycleGAN(PARAMS.model.model_copy(update={"generator_width": winograd.WIDE // 4}), PARAMS.train, CPU)
    plain = copy.deepcopy(fast)
    as_pytorch(plain.generators)
    images = torch.rand(2, 2, 1, 32, 32) * 2 - 1
    batch = Batch(images[0], images[1], torch.eye(4)[:2])
    for _ in range(2):
        mine, theirs = (networks.step(batch, None, torch.Generator().manual_seed(0)) for networks in (fast, plain))
        for name in ("adversarial", "cycle", "discriminator_ct", "discriminator_mr"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=2e-3, atol=1e-4)
