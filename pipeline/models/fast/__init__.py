"""What only makes training and translation faster, applied to plain networks; tests hold each fast way to the plain one.

winograd.py and thin.py are convolutions for CPUs, precision.py chooses number formats, update.py is an Adam that never waits for the
device, recorded.py replays a step as one CUDA graph, ranks.py shares a batch between processes.
"""

from typing import TypeVar

import torch
from torch import nn

from pipeline.models.fast.thin import ThinConv2d
from pipeline.models.fast.winograd import WideConv2d

Network = TypeVar("Network", bound=nn.Module)


def speed_up(network: Network, device: torch.device | str) -> Network:
    """`network` on `device`, changed in place: the same mathematics up to rounding, the same names of weights.

    On a CPU, wide 3×3 convolutions go by Winograd's way and those from or to one channel as matrix products. On a GPU, channels lie last.
    """
    device = torch.device(device)
    network.to(device)
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    elif device.type == "cpu":
        for name, layer in list(network.named_modules()):
            if type(layer) is nn.Conv2d and (kind := fast_convolution(layer)) is not None:
                network.set_submodule(name, with_weights_of(layer, kind))
    return network


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """Random numbers drawn where they are used: from the host they would have to be copied, and a GPU would wait."""
    return torch.Generator(device).manual_seed(seed)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`tensor` of the CPU on `device`; a GPU takes it from pinned memory, and the host goes on meanwhile."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def fast_convolution(layer: nn.Conv2d) -> type[nn.Conv2d] | None:
    """The class that computes `layer` faster on a CPU, or None."""
    return next((kind for kind in (ThinConv2d, WideConv2d) if kind.suits(layer)), None)


def with_weights_of(layer: nn.Conv2d, kind: type[nn.Conv2d]) -> nn.Conv2d:
    """A convolution of class `kind` that shares the weights of `layer`."""
    sides = (layer.kernel_size[0], layer.kernel_size[1])
    twin = kind(layer.in_channels, layer.out_channels, sides, bias=layer.bias is not None, device="meta")
    twin.weight, twin.bias = layer.weight, layer.bias
    return twin.train(layer.training)
