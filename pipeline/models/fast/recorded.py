"""A function's work on a GPU, recorded once as a CUDA graph and replayed: the host launches one thing instead of thousands.

A recording repeats kernels and their addresses, and what the host decided while it was made. So inputs are copied to where the first ones
lay, a number that changes must be a tensor, and the result lies in the same place each time: read it before the next call.
"""

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls as usual: libraries choose their kernels, optimisers make their state


class Recorded:
    """`function`, which works on the current GPU, recorded anew for each shape of its inputs.

    Inputs and results are tensors in dataclasses, dicts and tuples. Results have no history.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.recordings: dict[str, tuple[Callable[[], None], list[Tensor], Any]] = {}
        self.calls: dict[str, int] = {}
        self.stream: Any = None  # of warm-up and recording alike: gradients are added up where they first were

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        given = (inputs, named)
        shapes = repr(map_tensors(lambda tensor: (tuple(tensor.shape), tensor.dtype), given))
        if shapes not in self.recordings:
            self.calls[shapes] = self.calls.get(shapes, 0) + 1
            self.stream = self.stream or new_stream()
            if self.calls[shapes] <= WARM_UP:
                return beside(self.stream, lambda: self.function(*inputs, **named))
            first = map_tensors(torch.clone, given)
            replay, result = record(self.stream, lambda: self.function(*first[0], **first[1]))
            self.recordings[shapes] = replay, list_tensors(first), map_tensors(Tensor.detach, result)
        replay, places, result = self.recordings[shapes]
        for place, tensor in zip(places, list_tensors(given), strict=True):
            place.copy_(tensor)
        replay()
        return result


def new_stream() -> Any:
    return torch.cuda.Stream()


def beside(stream: Any, work: Callable[[], Any]) -> Any:
    """What `work` gives, done on `stream` between what came before and what comes after."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def record(stream: Any, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """A function that does `work` on the GPU, which is not done now, and where its result will lie."""
    torch.clear_autocast_cache()  # weights cast earlier would be taken for those of every later step
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # the feed's thread goes on meanwhile
        result = work()
    torch.clear_autocast_cache()
    return graph.replay, result


def map_tensors(change: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(map_tensors(change, part) for part in value)
    if isinstance(value, dict):
        return {name: map_tensors(change, part) for name, part in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: map_tensors(change, part) for name, part in vars(value).items()})
    return value


def list_tensors(value: Any) -> list[Tensor]:
    """Every tensor in `value`, in order."""
    tensors: list[Tensor] = []
    map_tensors(tensors.append, value)
    return tensors
