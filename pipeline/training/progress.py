"""What a person sees of a training: a live line on a terminal, some plain lines elsewhere, with rate, time left, losses and memory."""

import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline.training.loop import Training
from pipeline.training.machine import memory

PLAIN_LINES = 20
SHOWN = ("train/teacher", "train/cycle", "train/adversarial", "val/score")


def shown(steps: Iterator[int], training: Training) -> Iterator[int]:
    """Pass `steps` on and show how they go."""
    console = Console()
    columns = (
        TextColumn("train"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    every = max(1, training.steps // PLAIN_LINES)
    first, start = training.step, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("train", total=training.steps, completed=first, facts="")
        for step in steps:
            rate = (step - first) / max(time.monotonic() - start, 1e-9)
            if console.is_terminal:
                progress.update(task, completed=step, facts=facts(training, rate))
            elif step % every == 0:
                left = timedelta(seconds=round((training.steps - step) / rate))
                print(f"step {step} of {training.steps}, {left} left, {facts(training, rate)}", flush=True)
            yield step


def facts(training: Training, rate: float) -> str:
    """Images a second at `rate` steps a second, the last known losses, memory."""
    losses = [f"{name.rpartition('/')[2]} {training.latest[name]:.3f}" for name in SHOWN if name in training.latest]
    parts = [f"{rate * training.of.train.batch_size:.1f} images/s", *losses, f"{memory(training.device):.0f} MiB"]
    return ", ".join(parts)
