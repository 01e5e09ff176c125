"""What a person sees of a training: a live line on a terminal, some plain lines elsewhere, with rate, time left, losses and memory."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from pipeline.training.loop import Training

PLAIN_LINES = 20
LOSSES = ("train/teacher", "train/cycle", "train/adversarial", "val/score")
MIB = 2**20


def show_progress(steps: Iterator[int], training: "Training") -> None:
    """Run through `steps` and show how they go."""
    console = Console()
    counts = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    columns = (TextColumn("train"), *counts, TextColumn("{task.fields[state]}"))
    every = max(1, training.steps // PLAIN_LINES)
    first, start = training.step, time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("train", total=training.steps, completed=first, state="")
        for step in steps:
            rate = (step - first) / max(time.monotonic() - start, 1e-9)
            if console.is_terminal:
                progress.update(task, completed=step, state=describe_state(training, rate))
            elif step % every == 0:
                left = timedelta(seconds=round((training.steps - step) / rate))
                print(f"step {step} of {training.steps}, {left} left, {describe_state(training, rate)}", flush=True)


def describe_state(training: "Training", rate: float) -> str:
    """Images a second at `rate` steps a second, the last known losses, memory."""
    losses = [f"{name.rpartition('/')[2]} {training.latest[name]:.3f}" for name in LOSSES if name in training.latest]
    parts = [f"{rate * training.params.train.batch_size:.1f} images/s", *losses, f"{measure_memory(training.device):.0f} MiB"]
    return ", ".join(parts)


def measure_memory(device: torch.device) -> float:
    """MiB in use: of the GPU at most so far, else of this process now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return float(psutil.Process().memory_info().rss) / MIB


def measure_machine(device: torch.device) -> dict[str, float]:
    """CPU load since the last call in percent, and memory in MiB, under the names by which MLflow shows system metrics."""
    values = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_percentage": psutil.virtual_memory().percent,
        "system/training_memory_megabytes": measure_memory(device),
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        values["system/gpu_0_memory_usage_percentage"] = 100 * (1 - free / total)
    return values
