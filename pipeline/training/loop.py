"""The training loop: teacher first, then unpaired slices with the teacher kept on; resumable to the bit on the CPU."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.models.cyclegan import CycleGAN
from pipeline.models.ranks import ALONE, Ranks
from pipeline.training import checkpoint, validation
from pipeline.training.data import Slices
from pipeline.training.feed import Feed
from pipeline.training.machine import use
from pipeline.training.schedule import enough, learning_rate, scheduled_rate
from pipeline.training.warm_start import take_generators

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

LOG_STEPS = 25
WIDE = 32  # feature maps of a generator's first layer from which on a CPU gains from bfloat16
MOST_SKIPPED = 10  # steps in a row that may be left out because something in them was not finite


class Interrupted(UserError):
    """Stopped from outside; what is done lies in a checkpoint."""


@dataclass(frozen=True)
class Data:
    """Slices to train on, slices to validate on, and simulated pairs for both where there is a teacher."""

    train: Slices
    held_out: Slices
    pairs: Slices | None
    held_out_pairs: Slices | None


@dataclass
class Training:
    """A training in progress: networks, the next step, the curves so far, validation scores and the best weights where they are kept."""

    of: params.Params
    folder: Path
    device: torch.device
    data: Data
    ranks: Ranks = ALONE
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best: dict[str, torch.Tensor] | None = None
    run_id: str | None = None
    latest: dict[str, float] = field(default_factory=dict)  # last values of the curves, for the display

    def __post_init__(self) -> None:
        torch.manual_seed(self.of.train.seed)
        train = self.of.train
        self.precision = precision(self.of, self.device)
        if self.precision == "tf32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        if train.compile and self.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "c++")):
            raise UserError("params.yaml: train.compile = true needs a C++ compiler here; install g++ or set it to false")
        self.networks = CycleGAN(self.of.model, train, self.device, self.ranks)
        images = train.epochs * max(len(self.data.train.ct), len(self.data.train.mr)) if train.epochs else train.images
        self.taught = -(-train.teacher.images // train.batch_size)
        self.steps = self.taught + -(-images // train.batch_size)
        self.feed = Feed(self.data.train, self.data.pairs, train, self.taught, self.device, self.ranks)
        if (state := checkpoint.latest(self.folder)) is not None:
            self.networks.load_state_dict(state["networks"])
            self.step, self.history, self.run_id = state["step"], state["history"], state["run_id"]
            self.scores, self.best = state["scores"], state["best"]
        elif train.start_from:
            take_generators(self.networks, paths.as_given(train.start_from))

    @property
    def done(self) -> bool:
        """Whether the budget is used up, or validation has not got better for long enough."""
        return self.step >= self.steps or enough(self.scores, self.of.train.stop_after)

    def run(self, tracked: "Run | None", stop: threading.Event) -> Iterator[int]:
        """Train to the end, giving the count of steps done after each; `tracked` is None in all processes but the first.

        Raises Interrupted when `stop` is set, after a checkpoint, and UserError when training diverges.
        """
        self.run_id = tracked.id if tracked else None
        train = self.of.train
        saved = time.monotonic()
        bf16 = self.precision == "bfloat16"
        while not self.done:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                losses = self._one_step()
            self.step += 1
            seen = self.step * train.batch_size
            # Asked rarely on a GPU, since asking makes it wait; steps that were left out in between did no harm.
            if self.device.type == "cpu" or self.step % LOG_STEPS == 0:
                self._check()
            if tracked and (self.step % LOG_STEPS == 0 or self.step == self.steps):
                named = {name if "/" in name else f"train/{name}": float(value) for name, value in losses.items()}
                self._log(tracked, named, seen)
                tracked.log_metrics(use(self.device), seen)
            if seen // train.sample_images > (seen - train.batch_size) // train.sample_images or self.step == self.steps:
                self._validate(tracked, seen)
            stopped = bool(self.ranks.of_first(float(stop.is_set())))
            if self.ranks.first and (stopped or time.monotonic() - saved >= train.checkpoint_seconds):
                self.save()
                saved = time.monotonic()
            if stopped and not self.done:
                raise Interrupted(f"training stopped after {self.step} of {self.steps} steps; dvc repro goes on from there")
            yield self.step

    def save(self) -> None:
        state = {"networks": self.networks.state_dict(), "step": self.step, "history": self.history, "run_id": self.run_id}
        checkpoint.save(self.folder, self.step, state | {"scores": self.scores, "best": self.best})

    def conclude(self) -> None:
        """Make the best weights the averaged ones where they are kept."""
        if self.best is not None:
            self.networks.ema.load_state_dict(self.best)

    def _one_step(self) -> dict[str, torch.Tensor]:
        train = self.of.train
        batch, pairs = self.feed.at(self.step)
        if batch is None:
            assert pairs is not None
            last = train.learning_rate if self.steps > self.taught else 0.0
            rate = learning_rate(self.step, self.taught, train.decay_from, train.teacher.learning_rate, last)
            self.networks.set_learning_rate(rate)
            return self.networks.teach(pairs)
        self.networks.set_learning_rate(scheduled_rate(self.step - self.taught, self.steps - self.taught, train, self.scores))
        random = torch.Generator().manual_seed((train.seed << 32) + self.step)
        return self.networks.step(batch, pairs, random)

    def _check(self) -> None:
        """Stop where several steps in a row were left out; the weights are those of the last good step, and are saved."""
        if (skipped := int(self.networks.skipped)) >= MOST_SKIPPED:
            if self.ranks.first:
                self.save()
            raise UserError(
                f"training diverged: loss or gradients were not finite in the last {skipped} steps before step {self.step}; "
                "lower train.learning_rate, set train.clip_gradients or train.precision = float32 (the last good weights are kept)"
            )

    def _validate(self, tracked: "Run | None", seen: int) -> None:
        """Scores and samples by the first process; all learn the score, since schedule and end may depend on it."""
        score = 0.0
        if tracked:
            values = validation.validate(self.networks.ema, self.data.held_out, self.data.held_out_pairs)
            self._log(tracked, values, seen)
            tracked.log_image(self.sample(), key="samples", step=seen)
            score = values[validation.SCORE]
        score = self.ranks.of_first(score)
        if self.step <= self.taught < self.steps:
            return  # the warm-up is no candidate: what the teacher says is not yet what real slices look like
        if self.of.train.keep_best and score < min(self.scores, default=float("inf")):
            self.best = {name: value.detach().clone() for name, value in self.networks.ema.state_dict().items()}
        self.scores.append(score)

    def sample(self) -> Any:
        """uint8 picture of validation slices and what is made of them."""
        return validation.sample(self.networks.ema, self.data.held_out)

    def _log(self, tracked: "Run", values: dict[str, float], seen: int) -> None:
        self.history += [{"images": seen, "metric": name, "value": value} for name, value in values.items()]  # type: ignore[dict-item]
        self.latest |= values
        tracked.log_metrics(values, seen)


def precision(of: params.Params, device: torch.device) -> str:
    """The precision in use: `auto` is bfloat16 on a GPU that has it, on a CPU that has it for wide generators, else float32.

    Narrow ones gain little from it on a CPU, and without it come out nearly the same on any.
    """
    if of.train.precision != "auto":
        return of.train.precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if of.model.generator_width >= WIDE and cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16, which it does at twice the rate of float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def chosen_device(train: params.Train) -> torch.device:
    """The device in use: `auto` is a GPU where there is one. Raises UserError when a GPU is asked for and absent."""
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: train.device = 'cuda' but torch finds no GPU here; set it to auto or cpu")
    if train.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise UserError(f"params.yaml: train.devices = {train.devices} but torch finds {torch.cuda.device_count()} GPUs here; lower it")
    return torch.device("cuda", number)
