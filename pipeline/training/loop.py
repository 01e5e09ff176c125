"""The training loop: teacher first, then unpaired slices with the teacher kept on; resumable to the bit on the CPU."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.models.bundle import translate
from pipeline.models.cyclegan import Batch, CycleGAN
from pipeline.training import checkpoint
from pipeline.training.data import Slices
from pipeline.training.schedule import learning_rate
from pipeline.training.warm_start import take_generators

if TYPE_CHECKING:
    from pipeline.tracking.runs import Run

SomeBatch = TypeVar("SomeBatch", bound=Batch)
LOG_STEPS = 25
SHOWN = 6  # slices of a sample grid


class Interrupted(UserError):
    """Stopped from outside; what is done lies in a checkpoint."""


@dataclass
class Training:
    """A training in progress: networks, the next step, the curves so far and the last sample grid."""

    of: params.Params
    folder: Path
    device: torch.device
    slices: Slices
    held_out: Slices
    pairs: Slices | None
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    run_id: str | None = None

    def __post_init__(self) -> None:
        torch.manual_seed(self.of.train.seed)
        self.networks = CycleGAN(self.of.model, self.of.train, self.device)
        train = self.of.train
        self.taught = -(-train.teacher.images // train.batch_size)
        self.steps = self.taught + -(-train.images // train.batch_size)
        if not self.steps:
            raise UserError("params.yaml: train.images and train.teacher.images are both 0, so there is nothing to train; raise one")
        if (state := checkpoint.latest(self.folder)) is not None:
            self.networks.load_state_dict(state["networks"])
            self.step, self.history, self.run_id = state["step"], state["history"], state["run_id"]
        elif train.start_from:
            take_generators(self.networks, paths.as_given(train.start_from))

    def run(self, tracked: "Run", stop: threading.Event) -> Iterator[int]:
        """Train to the end, giving the count of steps done after each. Raises Interrupted when `stop` is set, after a checkpoint."""
        self.run_id = tracked.id
        train = self.of.train
        saved = time.monotonic()
        waiting: dict[str, torch.Tensor] = {}
        bf16 = precision(train, self.device) == "bfloat16"
        while self.step < self.steps:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                waiting = self._one_step()
            self.step += 1
            seen = self.step * train.batch_size
            if self.step % LOG_STEPS == 0 or self.step == self.steps:
                self._log(tracked, {f"train/{name}": float(value) for name, value in waiting.items()}, seen)
            if seen // train.sample_images > (seen - train.batch_size) // train.sample_images or self.step == self.steps:
                self._log(tracked, self.validate(), seen)
                tracked.log_image(self.sample(), key="samples", step=seen)
            if stop.is_set() or time.monotonic() - saved >= train.checkpoint_seconds:
                self.save()
                saved = time.monotonic()
            if stop.is_set() and self.step < self.steps:
                raise Interrupted(f"training stopped after {self.step} of {self.steps} steps; dvc repro goes on from there")
            yield self.step

    def save(self) -> None:
        state = {"networks": self.networks.state_dict(), "step": self.step, "history": self.history, "run_id": self.run_id}
        checkpoint.save(self.folder, self.step, state)

    def _one_step(self) -> dict[str, torch.Tensor]:
        train = self.of.train
        pairs = self._moved(self.pairs.pairs(self.step, train)) if self.pairs and train.teacher.weight else None
        if self.step < self.taught:
            if pairs is None:
                raise UserError("params.yaml: train.teacher.images > 0 needs train.teacher.weight above 0 and simulated pairs")
            last = train.learning_rate if train.images else 0.0
            rate = learning_rate(self.step, self.taught, train.decay_from, train.teacher.learning_rate, last)
            self.networks.set_learning_rate(rate)
            return self._sound(self.networks.teach(pairs))
        later = self.step - self.taught
        self.networks.set_learning_rate(learning_rate(later, self.steps - self.taught, train.decay_from, train.learning_rate))
        random = torch.Generator().manual_seed((train.seed << 32) + self.step)
        return self._sound(self.networks.step(self._moved(self.slices.batch(later, train)), pairs, random))

    def _sound(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Refuse to go on from a loss that is no number; asked once every LOG_STEPS, since asking makes a GPU wait."""
        if (self.step + 1) % LOG_STEPS == 0 and (bad := [name for name, loss in losses.items() if not torch.isfinite(loss)]):
            raise UserError(
                f"training diverged at step {self.step}: {', '.join(bad)} loss is not finite; "
                "lower train.learning_rate or set train.precision to float32 (the last checkpoint is kept)"
            )
        return losses

    def _moved(self, batch: SomeBatch) -> SomeBatch:
        return type(batch)(*(tensor.to(self.device, non_blocking=True) for tensor in vars(batch).values()))

    def _log(self, tracked: "Run", values: dict[str, float], seen: int) -> None:
        self.history += [{"images": seen, "metric": name, "value": value} for name, value in values.items()]  # type: ignore[dict-item]
        tracked.log_metrics(values, seen)

    def _held_out(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        from pipeline.dataset.store import to_float
        from pipeline.models.generator import CONTRASTS

        ct, mr = to_float(self.held_out.ct[:16]), to_float(self.held_out.mr[:16])
        count = min(len(ct), len(mr))
        known = self.held_out.contrast[:count]
        return ct[:count], mr[:count], [CONTRASTS[int(row.argmax())] if row.any() else "" for row in known]

    def validate(self) -> dict[str, float]:
        """Cycle error (0..1) of the averaged generators on up to 16 validation slices of each modality."""
        ct, mr, contrast = self._held_out()
        to_mr, to_ct = self.networks.ema["ct_to_mr"], self.networks.ema["mr_to_ct"]
        back_ct = translate(to_ct, translate(to_mr, ct, contrast))
        back_mr = translate(to_mr, translate(to_ct, mr), contrast)
        return {"val/ct_to_mr/cycle_mae": float(np.abs(back_ct - ct).mean()), "val/mr_to_ct/cycle_mae": float(np.abs(back_mr - mr).mean())}

    def sample(self) -> np.ndarray:
        """uint8 picture of validation slices: CT, MR made of it, MR, CT made of it, a row each."""
        ct, mr, contrast = self._held_out()
        ct, mr, contrast = ct[:SHOWN], mr[:SHOWN], contrast[:SHOWN]
        rows = (ct, translate(self.networks.ema["ct_to_mr"], ct, contrast), mr, translate(self.networks.ema["mr_to_ct"], mr))
        return np.rint(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]) * 255).astype(np.uint8)


def precision(train: params.Train, device: torch.device) -> str:
    """The precision in use: `auto` is bfloat16 on a GPU that has it, else float32."""
    if train.precision != "auto":
        return train.precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def chosen_device(train: params.Train) -> torch.device:
    """The device in use: `auto` is a GPU where there is one. Raises UserError when a GPU is asked for and absent."""
    if train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("params.yaml: train.device = 'cuda' but torch finds no GPU here; set it to auto or cpu")
    name: Any = "cuda" if train.device == "cuda" or (train.device == "auto" and torch.cuda.is_available()) else "cpu"
    return torch.device(name)
