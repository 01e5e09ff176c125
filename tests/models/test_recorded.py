"""Recorded steps give what steps as usual give. For a GPU's graph stands a tape: it plays the same operations on the same memory."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.fast import recorded
from pipeline.models.fast.recorded import WARM_UP, Recorded, list_tensors
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from tests.training.jobs import PARAMS

CPU = torch.device("cpu")


class Tape(TorchDispatchMode):
    """Notes every operation with its operands; what the host computes meanwhile stays as it was, as in a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def play(self) -> None:
        for func, args, kwargs, result in self.operations:
            for place, value in zip(list_all(result), list_all(func(*args, **kwargs)), strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def list_all(result: Any) -> list[Tensor]:
    return list_tensors(tuple(result) if isinstance(result, list) else result)


def record_on_tape(stream: Any, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    with Tape() as tape:
        result = work()
    played = 0

    def replay() -> None:
        nonlocal played
        if played:  # recording did the work once; a GPU would not have
            tape.play()
        played += 1

    return replay, result


@pytest.fixture(autouse=True)
def tapes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recorded, "new_stream", nullcontext)
    monkeypatch.setattr(recorded, "beside", lambda stream, work: work())
    monkeypatch.setattr(recorded, "record", record_on_tape)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of tiny operations
    yield
    torch.set_num_threads(threads)


def new_learner(record: bool, gan_loss: str) -> Learner:
    torch.manual_seed(0)
    learner = Learner(PARAMS.model, PARAMS.train.model_copy(update={"gan_loss": gan_loss, "clip_gradients": 1.0}), CPU)
    if record:
        for minimiser in (learner.generator_minimiser, learner.discriminator_minimiser):
            minimiser.record(CPU)
    return learner


def inputs(step: int) -> tuple[Batch, Pairs]:
    images = torch.rand(6, 2, 1, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
    contrast = torch.eye(4)[[step % 4, 0]]
    return Batch(images[0], images[1], contrast, torch.tensor([WHOLE, WHOLE])), Pairs(images[2], images[3], contrast, images[4], images[5])


@pytest.mark.parametrize("gan_loss", ["lsgan", "wgan_gp"])
def test_recorded_steps_are_the_steps_as_usual(gan_loss: str) -> None:
    """A warm-up, then both kinds of input, with a rate, an average, a pool and a bad step that change what each step does."""
    usual, replayed = (new_learner(record, gan_loss) for record in (False, True))
    for step in range(2 * WARM_UP + 6):
        batch, pairs = inputs(step)
        if step == WARM_UP + 3:
            pairs.mr[0, 0, 0, 0] = float("nan")
        losses = []
        for learner in (usual, replayed):
            learner.set_learning_rate(2.0 ** -(10 + step % 3))  # exact in float32 too
            teach = step < WARM_UP + 2
            random = torch.Generator().manual_seed(step)
            losses.append(learner.teach(pairs) if teach else learner.step(batch, pairs, random))
        assert losses[0].keys() == losses[1].keys()
        for name in losses[0]:
            assert torch.equal(losses[0][name].nan_to_num(-1), losses[1][name].nan_to_num(-1)), (step, name)
    mine, theirs = usual.state_dict(), replayed.state_dict()
    for name in ("networks", "average"):
        assert all(torch.equal(value, theirs[name][key]) for key, value in mine[name].items())
    assert all(len(minimiser._do.recordings) for minimiser in (replayed.generator_minimiser, replayed.discriminator_minimiser))


def test_another_shape_is_another_recording() -> None:
    doubled = Recorded(lambda values: {"twice": 2 * values["x"]})
    for size in (2, 3, 2, 3) * (WARM_UP + 1):
        assert torch.equal(doubled({"x": torch.ones(size)})["twice"], torch.full((size,), 2.0))
    assert len(doubled.recordings) == 2


def test_a_number_of_the_host_is_repeated_as_it_was() -> None:
    """What the tape is for: it would show a learning rate or a choice that is baked into a recording."""
    factor = 1.0
    scaled = Recorded(lambda x: factor * x)
    for _ in range(WARM_UP + 1):
        scaled(torch.ones(1))
    factor = 5.0
    assert float(scaled(torch.ones(1))) == 1.0
