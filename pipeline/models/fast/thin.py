"""Convolutions from or to a single channel on a CPU as one matrix product each; PyTorch's own take several times as long."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ThinConv2d(nn.Conv2d):
    """nn.Conv2d without stride or padding, (N, C, H, W) to (N, K, H', W'), the same numbers up to rounding.

    Faster on a CPU where C or K is 1; products in bfloat16 where autocast says so, sums always in float32.
    """

    @classmethod
    def suits(cls, layer: nn.Conv2d) -> bool:
        """Whether this class computes `layer` faster; 1×1 kernels are matrix products already."""
        plain = layer.stride == (1, 1) and layer.padding == (0, 0) and layer.dilation == (1, 1) and layer.groups == 1
        return plain and layer.kernel_size != (1, 1) and min(layer.in_channels, layer.out_channels) == 1

    def forward(self, image: Tensor) -> Tensor:
        if not self.is_fast_for(image):
            return super().forward(image)
        return self._gather(image) if self.in_channels == 1 else self._scatter(image)

    def is_fast_for(self, image: Tensor) -> bool:
        """Whether `image` goes by the fast way, or by PyTorch's own."""
        known = image.dtype == torch.float32 or (image.dtype == torch.bfloat16 and torch.is_autocast_enabled("cpu"))
        return known and image.device.type == "cpu" and self.suits(self)

    def _gather(self, image: Tensor) -> Tensor:
        """Each window as a column, times the kernels."""
        columns = functional.unfold(image, self.weight.shape[2:])
        result = torch.bmm(self.weight.flatten(1).expand(len(image), -1, -1), columns)
        return self._add_bias(result.unflatten(2, (image.shape[2] - self.weight.shape[2] + 1, image.shape[3] - self.weight.shape[3] + 1)))

    def _scatter(self, image: Tensor) -> Tensor:
        """Each pixel times the kernel, turned round, which is added where the window lies that it belongs to."""
        (down, across), (height, width) = self.weight.shape[2:], image.shape[2:]
        kernels = self.weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
        spread = torch.bmm(kernels.expand(len(image), -1, -1), image.flatten(2))
        whole = functional.fold(spread.float(), (height + down - 1, width + across - 1), (down, across))
        return self._add_bias(whole[..., down - 1 : height, across - 1 : width])

    def _add_bias(self, result: Tensor) -> Tensor:
        return result if self.bias is None else result + self.bias[:, None, None]
