"""What a GPU would meet, without one: torch's meta device stands for it.

Its tensors hold no values, refuse to be mixed with those of the CPU, and copies to them can be counted.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.fast.ranks import ALONE
from pipeline.models.learner import Learner
from pipeline.training import data, paired_slices, simulated_pairs
from pipeline.training.data import Slices
from pipeline.training.feed import Data, Feed
from pipeline.training.paired_slices import PairedSlices
from pipeline.training.simulated_pairs import SimulatedHeads
from tests.training import jobs

GPU = torch.device("meta")


class Copies(TorchDispatchMode):
    """Counts copies from the CPU to the GPU, and those of them that make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking: list[str] = []
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        source = next((arg for arg in args if isinstance(arg, torch.Tensor)), None)
        if source is not None and isinstance(result, torch.Tensor) and "copy" in func.__name__:
            source = args[1] if func.__name__.startswith("copy_") else source
            if source.device.type == "cpu" and result.device == GPU and source.numel() > 0:
                self.count += 1
                if not kwargs.get("non_blocking") and not (len(args) > 2 and args[2] is True):
                    self.blocking.append(f"{func.__name__} of {tuple(source.shape)}")
        return result


class FakeGenerator(torch.Generator):
    """Says that it lives on the GPU."""

    device = GPU  # type: ignore[assignment]


def plain_updates(weights: list[torch.Tensor], gradients: list[torch.Tensor], *_: object, **__: object) -> None:
    """Takes what the fused kernel of Adam takes."""
    torch._foreach_sub_(weights, gradients)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what the meta device lacks: pinned memory, a count of free memory, generators, Adam's fused kernel."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**40, 2**40))
    for module in (data, paired_slices, simulated_pairs, "pipeline.models.learner"):
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.generator_on", lambda *_: FakeGenerator())
    monkeypatch.setattr(torch, "_fused_adam_", plain_updates)


def new_learner(**train: object) -> Learner:
    return Learner(jobs.PARAMS.model, jobs.PARAMS.train.model_copy(update=train), GPU)


@pytest.mark.parametrize("gan_loss", ["lsgan", "wgan_gp"])
def test_no_step_copies_from_the_host_and_waits(gan_loss: str, tmp_path: Path) -> None:
    folder = jobs.make(tmp_path / "job") / "data/slices"
    train = jobs.PARAMS.train.model_copy(update={"gan_loss": gan_loss, "crop": 0.2, "affine": True})
    feed = Feed(Data(Slices("train", folder), None, SimulatedHeads("teacher", folder), None), train, GPU, ALONE)
    learner = new_learner(gan_loss=gan_loss)
    feed.inputs(0)  # the simulator's tables go to the device once
    for step in range(3):
        with Copies() as copies:
            batch, pairs, _ = feed.inputs(step)
            assert batch is not None
            losses = learner.step(batch, pairs, torch.Generator().manual_seed(step))
        assert copies.blocking == []
        assert copies.count <= 3  # row numbers, from pinned memory
    assert all(loss.device == GPU for loss in losses.values())


@pytest.mark.parametrize("room", [2**40, 40])
def test_registered_pairs_come_without_waiting(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = jobs.pair_up(jobs.make(tmp_path / "job") / "data/slices")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (room, room))
    slices = Slices("train", folder)
    train = jobs.PARAMS.train.model_copy(update={"pairs": jobs.PARAMS.train.pairs.model_copy(update={"tolerance": 1})})
    feed = Feed(Data(slices, None, None, None, PairedSlices(slices, "train", folder)), train, GPU, ALONE)
    learner = new_learner(pairs=train.pairs)
    with Copies() as copies:
        batch, _, registered = feed.inputs(0)
        assert batch is not None
        losses = learner.step(batch, None, torch.Generator().manual_seed(0), registered)
    assert copies.blocking == []
    assert losses["pairs"].device == GPU


def test_slices_that_do_not_fit_are_sent_without_waiting(tmp_path: Path) -> None:
    slices = Slices("train", jobs.make(tmp_path / "job") / "data/slices")
    assert slices.hold(GPU, 10) == 10
    with Copies() as copies:
        batch = slices.batch(0, jobs.PARAMS.train)
    assert batch.ct.device == batch.contrast.device == batch.ct_window.device == GPU
    assert copies.blocking == []
    assert copies.count == 4


def test_the_counter_sees_a_copy_that_waits() -> None:
    with Copies() as copies:
        torch.zeros(3).to(GPU)
        torch.zeros(3).to(GPU, non_blocking=True)
    assert (len(copies.blocking), copies.count) == (1, 2)


def test_a_training_goes_on_on_the_gpu_from_a_checkpoint_that_was_loaded_to_the_cpu(tmp_path: Path) -> None:
    folder = jobs.make(tmp_path / "job") / "data/slices"
    feed = Feed(Data(Slices("train", folder), None, None, None), jobs.PARAMS.train, GPU, ALONE)
    first, second = new_learner(), new_learner()
    for step in range(3):
        batch, *_ = feed.inputs(step)
        assert batch is not None
        first.step(batch, None, torch.Generator())
    state = first.state_dict()
    for modality in ("ct", "mr"):
        pool = state[f"pool_{modality}"]
        state[f"pool_{modality}"] = {name: [torch.zeros(value.shape) for value in values] for name, values in pool.items()}
    second.load_state_dict(state)
    assert all(image.device == GPU for pool in second.pools.values() for image in pool.images)
    for step in range(3, 12):  # long enough that images from the checkpoint are shown again beside new ones
        batch, *_ = feed.inputs(step)
        assert batch is not None
        second.step(batch, None, torch.Generator().manual_seed(step))
