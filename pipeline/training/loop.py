"""The training loop: teacher first, then registered pairs, then unpaired slices, each kept on; resumable to the bit on the CPU."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import paths, presets
from pipeline.errors import UserError
from pipeline.models.fast.precision import allow_tf32, autocast, choose_precision
from pipeline.models.fast.ranks import ALONE, Ranks
from pipeline.models.folder import load_model, load_preprocess
from pipeline.models.inference import load_generator
from pipeline.models.learner import Learner
from pipeline.params import Params, Train
from pipeline.processes import Stop
from pipeline.training.checkpoint import parse_checkpoint, read_latest_checkpoint, save_checkpoint
from pipeline.training.feed import Data, Feed
from pipeline.training.progress import measure_machine
from pipeline.training.schedule import is_exhausted, linear_rate, scheduled_rate
from pipeline.training.validation import SCORE, draw_samples, validate

LOG_STEPS = 25
SHAPE = ("generator", "generator_width", "upsampling", "norm", "condition_on_contrast")  # of `model`: what a generator's weights fit
MOST_SKIPPED = 10  # steps in a row that may be left out because something in them was not finite


class Interrupted(UserError):
    """Stopped from outside; what is done lies in a checkpoint."""


class Tracker(Protocol):
    """Where curves and pictures go while a training runs; `step` counts images seen. What it cannot take must not end the training."""

    id: str

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None: ...
    def log_image(self, array: NDArray[np.uint8], key: str, step: int = 0) -> None: ...


@dataclass
class Training:
    """A training in progress: networks, the next step, the curves so far, validation scores and the best weights where they are kept."""

    params: Params
    folder: Path  # of checkpoints
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
        train = self.params.train
        torch.manual_seed(train.seed)
        self.precision = choose_precision(self.params, self.device)
        allow_tf32(self.precision == "tf32")
        if train.compile and self.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "c++")):
            raise UserError("params.yaml: train.compile = true needs a C++ compiler here; install g++ or set it to false")
        if train.pairs.images and not self.data.pairs:
            raise UserError(
                f"params.yaml: train.pairs.images = {train.pairs.images}, but no registered pairs fell into the train split;"
                " bring pairs (docs/data.md), or set it to 0"
            )
        self.learner = Learner(self.params.model, train, self.device, self.ranks)
        slices = self.data.train
        images = train.images if slices else 0
        if train.epochs and slices:
            images = train.epochs * max(len(slices.ct), len(slices.mr))
        self.teacher_steps = -(-train.teacher.images // train.batch_size)
        self.supervised_steps = self.teacher_steps + -(-train.pairs.images // train.batch_size)
        self.steps = self.supervised_steps + -(-images // train.batch_size)
        self.feed = Feed(self.data, train, self.device, self.ranks, self.teacher_steps, self.supervised_steps)
        # Only the first process has checkpoints: the others may be on hosts that share no files with it.
        if content := self.ranks.bytes_from_first(read_latest_checkpoint(self.folder) if self.ranks.first else b""):
            state = parse_checkpoint(content)
            self.learner.load_state_dict(state["learner"])
            self.step, self.history, self.run_id = state["step"], state["history"], state["run_id"]
            self.scores, self.best = state["scores"], state["best"]
        elif train.start_from:
            load_generators(self.learner, self.params, paths.models_named(train.start_from))

    @property
    def done(self) -> bool:
        """Whether the budget is used up, or validation has not got better for long enough."""
        return self.step >= self.steps or is_exhausted(self.scores, self.params.train.stop_after)

    def run(self, tracker: Tracker | None, stop: Stop) -> Iterator[int]:
        """Train to the end, giving the count of steps done after each; `tracker` is None in all processes but the first.

        Raises Interrupted when `stop` is set, after a checkpoint, and UserError when training diverges.
        """
        self.run_id = tracker.id if tracker else None
        train = self.params.train
        saved = time.monotonic()
        while not self.done:
            losses = self._take_step()
            self.step += 1
            seen = self.step * train.batch_size
            # Asked rarely on a GPU, since asking makes it wait; steps that were left out in between did no harm.
            if self.device.type == "cpu" or self.step % LOG_STEPS == 0:
                self._check_finite()
            if tracker and (self.step % LOG_STEPS == 0 or self.step == self.steps):
                named = {name if "/" in name else f"train/{name}": float(value) for name, value in losses.items()}
                self._log(tracker, named, seen)
                tracker.log_metrics(measure_machine(self.device), seen)
            if seen // train.sample_images > (seen - train.batch_size) // train.sample_images or self.step == self.steps:
                self._validate(tracker, seen)
            stopped = bool(self.ranks.from_first(float(stop.is_set())))
            if self.ranks.first and (stopped or time.monotonic() - saved >= train.checkpoint_seconds):
                self.save()
                saved = time.monotonic()
            if stopped and not self.done:
                raise Interrupted(f"training stopped after {self.step} of {self.steps} steps; dvc repro goes on from there")
            yield self.step

    def save(self) -> None:
        """Write a checkpoint of everything that later steps depend on."""
        state = {"learner": self.learner.state_dict(), "step": self.step, "history": self.history, "run_id": self.run_id}
        save_checkpoint(self.folder, self.step, state | {"scores": self.scores, "best": self.best})

    def use_best(self) -> None:
        """Make the best weights the averaged ones where `train.keep_best` kept them."""
        if self.best is not None:
            self.learner.average.load_state_dict(self.best)

    def draw_samples(self) -> NDArray[np.uint8]:
        """Picture of validation slices and their translations."""
        shown = self.data.val or self.data.teacher_val
        assert shown is not None
        return draw_samples(self.learner.average, shown)

    def _take_step(self) -> dict[str, torch.Tensor]:
        train = self.params.train
        # Made in float32: in bfloat16 the grid of a turn would be off by half a pixel.
        batch, pairs, registered = self.feed.inputs(self.step)
        if batch is None:
            last = train.learning_rate if self.steps > self.supervised_steps else 0.0
            rate = linear_rate(self.step, self.supervised_steps, train.decay_from, train.teacher.learning_rate, last)
        else:
            rate = scheduled_rate(self.step - self.supervised_steps, self.steps - self.supervised_steps, train, self.scores)
        self.learner.set_learning_rate(rate)
        with autocast(self.precision, self.device):
            if batch is None:
                return self.learner.teach(pairs, registered)
            random = torch.Generator().manual_seed((train.seed << 32) + self.step)
            return self.learner.step(batch, pairs, random, registered)

    def _check_finite(self) -> None:
        """Stop where several steps in a row were left out; the weights are those of the last good step, and are saved."""
        if (skipped := int(self.learner.skipped)) >= MOST_SKIPPED:
            if self.ranks.first:
                self.save()
            raise UserError(
                f"training diverged: loss or gradients were not finite in the last {skipped} steps before step {self.step}; "
                "lower train.learning_rate, set train.clip_gradients or train.precision = float32 (the last good weights are kept)"
            )

    def _validate(self, tracker: Tracker | None, seen: int) -> None:
        """Scores and samples by the first process; all learn the score, since schedule and end may depend on it."""
        score = 0.0
        if tracker:
            values = validate(self.learner.average, self.data.val, self.data.teacher_val, self.data.pairs_val)
            self._log(tracker, values, seen)
            tracker.log_image(self.draw_samples(), key="samples", step=seen)
            score = values[SCORE]
        score = self.ranks.from_first(score)
        real_from = self.supervised_steps if self.supervised_steps < self.steps else self.teacher_steps
        if self.step <= real_from < self.steps:
            return  # what comes before the last phase is no candidate: what the teacher says is not yet what real slices look like
        if self.params.train.keep_best and score < min(self.scores, default=float("inf")):
            self.best = {name: value.detach().clone() for name, value in self.learner.average.state_dict().items()}
        self.scores.append(score)

    def _log(self, tracker: Tracker, values: dict[str, float], seen: int) -> None:
        self.history += [{"images": seen, "metric": name, "value": value} for name, value in values.items()]  # type: ignore[dict-item]
        self.latest |= values
        tracker.log_metrics(values, seen)


def load_generators(learner: Learner, params: Params, folder: Path) -> None:
    """Start from the generators in `folder`, and their average from them as well; discriminators and optimisers start afresh.

    Raises UserError when the folder holds none, or when they are other networks, or see other pictures, than `params` say; it names each
    knob and the value that fits.
    """
    wanted = {f"model.{name}": getattr(params.model, name) for name in SHAPE} | {"preprocess.pixels": params.preprocess.pixels}
    model, preprocess = load_model(folder), load_preprocess(folder)
    there = {f"model.{name}": getattr(model, name) for name in SHAPE} | {"preprocess.pixels": preprocess.pixels}
    if other := [knob for knob in wanted if wanted[knob] != there[knob]]:
        differences = ", ".join(f"{knob} = {there[knob]} (params.yaml: {wanted[knob]})" for knob in other)
        settings = " ".join(f"--set {knob}={presets.as_written(there[knob])}" for knob in other)
        raise UserError(f"train.start_from = {params.train.start_from}: it has {differences}; run ctmr preset {settings}")
    for direction in learner.generators:
        weights = load_generator(folder, direction).state_dict()
        learner.generators[direction].load_state_dict(weights)
        learner.average[direction].load_state_dict(weights)


def choose_device(train: Train) -> torch.device:
    """The device in use: `auto` is a GPU where there is one. Raises UserError when a GPU is asked for and absent."""
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: train.device = 'cuda' but torch finds no GPU here; set it to auto or cpu")
    if train.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise UserError(f"params.yaml: train.devices = {train.devices} but torch finds {torch.cuda.device_count()} GPUs here; lower it")
    return torch.device("cuda", number)
