"""What generators and discriminators choose by params: norm, upsampling, first weights, and how the contrast comes in."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

NORMS: dict[str, type[nn.Module]] = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d, "none": nn.Identity}
SPREAD = 0.02  # standard deviation of the first weights (arXiv 1703.10593, section 7.1)
FIRST_WEIGHTS: dict[str, Callable[[Tensor], object]] = {
    "normal": partial(nn.init.normal_, mean=0.0, std=SPREAD),
    "xavier": nn.init.xavier_normal_,
    "kaiming": nn.init.kaiming_normal_,
    "orthogonal": nn.init.orthogonal_,
}


def make_norm(kind: str, width: int) -> nn.Module:
    """The layer that `model.norm` names, for (N, width, H, W)."""
    return NORMS[kind](width)


def make_upsampling(kind: str, wide: int, narrow: int, kernel: int) -> nn.Module:
    """(N, wide, H, W) to (N, narrow, 2 H, 2 W).

    `transpose`: a transposed convolution of side `kernel`, 3 or 4. `resize`: nearest neighbours and a 3×3 convolution, which leaves no
    checkerboards (Odena et al., Distill 2016, doi 10.23915/distill.00003).
    """
    if kind == "transpose":
        return nn.ConvTranspose2d(wide, narrow, kernel, stride=2, padding=1, output_padding=int(kernel == 3))
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(wide, narrow, 3))


def modulate(hidden: Tensor, layer: nn.Linear | None, condition: Tensor | None) -> Tensor:
    """`hidden` (N, C, H, W), scaled and shifted a channel by what `layer` makes of `condition` (arXiv 1610.07629)."""
    if layer is None or condition is None:
        return hidden
    scale, shift = layer(condition)[:, :, None, None].chunk(2, dim=1)
    result: Tensor = hidden * (1 + scale) + shift
    return result


def initialise(module: nn.Module, kind: str) -> None:
    """First weights of a convolution or batch norm; biases zero. Other layers are left as they are.

    `kind`: `normal` as in the paper, `xavier` (Glorot & Bengio 2010), `kaiming` (arXiv 1502.01852) or `orthogonal` (arXiv 1312.6120).
    """
    if isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, SPREAD)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        FIRST_WEIGHTS[kind](module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
