"""3×3 convolutions of wide layers on a CPU in a quarter of the multiplications (Winograd; Lavin & Gray, arXiv 1509.09308)."""

from typing import Any

import torch
from torch import Tensor, nn

WIDE = 128  # channels from which on the smaller products pay for the transforms
SIDE = 4  # pixels a side that a tile gives; it takes SIDE + 2

# F(4×4, 3×3) as in section 4.3 of the paper: result = OUT [(KERNEL g KERNELᵀ) · (IN d INᵀ)] OUTᵀ, here for whole tiles as one matrix each.
_IN = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
_KERNEL = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]  # times 24
_OUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _both_axes(matrix: list[list[int]], divisor: int = 1) -> Tensor:
    one = torch.tensor(matrix, dtype=torch.float64) / divisor
    return torch.kron(one, one)


IN, KERNEL, OUT = _both_axes(_IN), _both_axes(_KERNEL, 24), _both_axes(_OUT)  # (36, 36), (36, 9), (16, 36)


class WideConv2d(nn.Conv2d):
    """nn.Conv2d of stride 1 without padding, (N, C, H + 2, W + 2) to (N, K, H, W), the same numbers up to rounding (1e-5 of the largest).

    By Winograd's way where that is faster: 3×3, float32 on a CPU, at least WIDE channels, H and W in multiples of SIDE. The transformed
    kernels, four times the weights' size, are cached until the weights change: a training step uses them several times, a model always.
    """

    @classmethod
    def suits(cls, layer: nn.Conv2d) -> bool:
        """Whether this class computes `layer` faster."""
        plain = layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
        return plain and layer.dilation == (1, 1) and min(layer.in_channels, layer.out_channels) >= WIDE

    def forward(self, image: Tensor) -> Tensor:
        if not self.is_fast_for(image):
            return super().forward(image)
        result: Tensor = _Winograd.apply(image, self.weight, self.transformed_kernels())  # type: ignore[no-untyped-call]
        return result if self.bias is None else result + self.bias[:, None, None]

    def __getstate__(self) -> dict[str, Any]:
        """Without the cached kernels: in a copy they would outlive a change of its weights."""
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def transformed_kernels(self) -> Tensor:
        """The weights as 36 matrices (36, K, C), cached until they change."""
        weight = self.weight
        cache: tuple[Tensor, int | None, Tensor] | None = vars(self).get("_cache")
        version = None if weight.is_inference() else weight._version  # None: changes of such weights are not counted
        if cache is None or version is None or cache[0] is not weight or cache[1] != version:
            with torch.inference_mode(version is None), torch.no_grad():  # cached ones may be used in training later
                spread = KERNEL.to(weight) @ weight.permute(2, 3, 0, 1).reshape(9, -1)
            cache = self._cache = (weight, version, spread.view(36, *weight.shape[:2]))
        return cache[2]

    def is_fast_for(self, image: Tensor) -> bool:
        """Whether `image` goes by Winograd's way, or by PyTorch's own."""
        fits = image.shape[-2] % SIDE == image.shape[-1] % SIDE == 2
        exact = image.device.type == "cpu" and image.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        return fits and exact and self.suits(self) and not torch.compiler.is_compiling()


class _Winograd(torch.autograd.Function):
    """The convolution and its gradients, all as 36 matrix products between transformed tiles."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, spread: Tensor) -> Tensor:
        (count, channels, *sides), kernels = image.shape, len(weight)
        down, across = (side // SIDE for side in sides)
        tiles = (IN.to(image) @ _cut_tiles(image)).view(36, channels, -1)
        results = OUT.to(image) @ torch.bmm(spread, tiles).view(36, -1)
        ctx.save_for_backward(spread, tiles)
        ctx.sizes = count, channels, kernels, down, across
        whole = results.view(SIDE, SIDE, kernels, count, down, across).permute(3, 2, 4, 0, 5, 1)
        return whole.reshape(count, kernels, SIDE * down, SIDE * across)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,), (spread, tiles) = gradients, ctx.saved_tensors
        count, channels, kernels, down, across = ctx.sizes
        parts = gradient.reshape(count, kernels, down, SIDE, across, SIDE).permute(3, 5, 1, 0, 2, 4).reshape(SIDE**2, -1)
        spread_gradient = (OUT.T.to(gradient) @ parts).view(36, kernels, -1)
        image = weight = None
        if ctx.needs_input_grad[0]:
            joined = IN.T.to(gradient) @ torch.bmm(spread.transpose(1, 2), spread_gradient).view(36, -1)
            image = _join_tiles(joined, count, channels, down, across)
        if ctx.needs_input_grad[1]:
            weight = KERNEL.T.to(gradient) @ torch.bmm(spread_gradient, tiles.transpose(1, 2)).view(36, -1)
            weight = weight.view(3, 3, kernels, channels).permute(2, 3, 0, 1)
        return image, weight, None


def _cut_tiles(image: Tensor) -> Tensor:
    """(N, C, H + 2, W + 2) as tiles of 6×6 that overlap by two pixels: (36, C · N · H/4 · W/4)."""
    tile = SIDE + 2
    return image.unfold(2, tile, SIDE).unfold(3, tile, SIDE).permute(4, 5, 1, 0, 2, 3).reshape(tile**2, -1)


def _join_tiles(tiles: Tensor, count: int, channels: int, down: int, across: int) -> Tensor:
    """The transpose of `_cut_tiles`: each pixel the sum of what the tiles that cover it hold."""
    tile, shared = SIDE + 2, 2
    split = tiles.view(tile, tile, channels, count, down, across).permute(3, 2, 4, 0, 5, 1)
    result = tiles.new_zeros(count, channels, down + 1, SIDE, across + 1, SIDE)
    result[:, :, :-1, :, :-1] = split[:, :, :, :SIDE, :, :SIDE]
    result[:, :, 1:, :shared, :-1] += split[:, :, :, SIDE:, :, :SIDE]
    result[:, :, :-1, :, 1:, :shared] += split[:, :, :, :SIDE, :, SIDE:]
    result[:, :, 1:, :shared, 1:, :shared] += split[:, :, :, SIDE:, :, SIDE:]
    return result.view(count, channels, SIDE * (down + 1), SIDE * (across + 1))[..., :-shared, :-shared]
