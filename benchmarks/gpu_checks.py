"""Whether training is right on this machine's card: 50 steps as on the CPU, resumed after a kill, the same on two ranks as on one.

Run by benchmarks/gpu.py. Without a card the CPU plays its part, with PyTorch's own convolutions, so that every line here runs.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.made_slices import PROJECT, make_project
from benchmarks.plain_step import as_pytorch
from pipeline import params, paths
from pipeline.domain import DIRECTIONS
from pipeline.models.cyclegan import SIGNAL, Batch
from pipeline.models.fast.precision import allow_tf32, cpu_has_bfloat16
from pipeline.models.inference import load_generator, translate
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from pipeline.processes import Stop

CPU = torch.device("cpu")
STEPS = 50
FIRST = 2  # steps before rounding grows: after ten, two ways of convolving on one CPU are 5 % apart in single losses
LIMITS = {"float32": (1e-4, 0.03), "bfloat16": (0.05, 0.05)}  # relative differences of losses in the first steps, and of their means
RANKS_APART = 1e-2  # mean difference of translations, of a range of 1
SMALL = {"generator": "resnet_6", "generator_width": 8, "discriminator_width": 8, "discriminator_layers": 2}
JOB = {
    **{f"model.{name}": value for name, value in SMALL.items()},
    "preprocess.pixels": 32,
    "train.threads": 1,
    "train.precision": "float32",
    "train.batch_size": 2,
    "train.images": 24,
    "train.teacher.images": 8,
    "train.checkpoint_seconds": 0.01,
    "train.sample_images": 24,
}
START_SECONDS = 120.0  # to the first checkpoint


class Check(NamedTuple):
    """What was checked, and whether it held; None: it could not be checked here."""

    name: str
    right: bool | None
    found: str


def check_all(device: torch.device) -> Iterator[Check]:
    """Every check, one after the other."""
    yield from check_steps(device)
    yield check_resume()
    yield check_ranks(device)


def check_steps(device: torch.device, steps: int = STEPS, pixels: int = 64) -> Iterator[Check]:
    """The losses of `steps` steps on `device` beside those on the CPU, from the same weights, slices and choices."""
    expected = run_steps(CPU, steps, pixels)
    for how in ("float32", "float32, CUDA graphs", "bfloat16"):
        if how == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16():
            yield Check(f"losses, {how}", None, "this CPU has no bfloat16")
            continue
        found = run_steps(device, steps, pixels, graphs="graphs" in how, bfloat16=how == "bfloat16", plain=device == CPU)
        first = float(np.abs(found / expected - 1)[:FIRST].max())
        mean = float(np.abs(found.mean(0) / expected.mean(0) - 1).max())
        most_first, most_mean = LIMITS[how.partition(",")[0]]
        facts = f"apart from the CPU's: {first:.1e} in the first {FIRST}, their means {mean:.1e}"
        yield Check(f"losses of {steps} steps, {how}", first <= most_first and mean <= most_mean, facts)


def run_steps(
    device: torch.device, steps: int, pixels: int, *, graphs: bool = False, bfloat16: bool = False, plain: bool = False
) -> np.ndarray:
    """Losses (steps, terms) of a small network; `plain`: by PyTorch's own convolutions."""
    allow_tf32(False)
    torch.set_num_threads(1)  # networks this small gain nothing from more
    settings = params.load(PROJECT / "params.yaml")
    torch.manual_seed(0)
    learner = Learner(settings.model.model_copy(update=SMALL), settings.train.model_copy(update={"cuda_graphs": graphs}), device)
    if plain:
        as_pytorch(learner.networks)
    losses = []
    for step in range(steps):
        learner.set_learning_rate(settings.train.learning_rate)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            terms = learner.step(draw_batch(step, pixels, device), None, torch.Generator().manual_seed(step))
        losses.append([float(value) for name, value in terms.items() if not name.startswith(SIGNAL) and name != "identity"])
    return np.array(losses)


def draw_batch(step: int, pixels: int, device: torch.device) -> Batch:
    """Two smooth slices of each modality."""
    random = torch.Generator().manual_seed(step)
    coarse = torch.rand(2, 2, 1, pixels // 8, pixels // 8, generator=random) * 2 - 1
    ct, mr = torch.nn.functional.interpolate(coarse.flatten(0, 1), size=pixels, mode="bilinear").chunk(2)
    return Batch(*(part.to(device) for part in (ct, mr, torch.eye(4)[[step % 4, 0]], torch.tensor([WHOLE, WHOLE]))))


def check_resume() -> Check:
    """A training killed after its first checkpoints goes on from there and ends."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_project(folder, JOB)
        process = start_training(folder)
        try:
            wait_for_checkpoint(folder, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        again = start_training(folder)
        printed = again.communicate()[0]
        right = again.returncode == 0 and "going on from step" in printed and (folder / paths.MODEL_JSON).is_file()
        lines = [line for line in printed.splitlines() if line.startswith("going on") or not right]
        return Check("resume after a kill", right, "; ".join(lines[-5:]))


def check_ranks(device: torch.device) -> Check:
    """Two processes, a card each, give what one gives."""
    name = "two ranks"
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        return Check(name, None, "there is one card")
    with tempfile.TemporaryDirectory() as scratch:
        for ranks in (1, 2):
            folder = Path(scratch, str(ranks))
            make_project(folder, {**JOB, "train.devices": ranks})
            process = start_training(folder, ranks)
            printed = process.communicate()[0]
            if process.returncode:
                return Check(name, False, f"{ranks} ended with {process.returncode}: {' '.join(printed.splitlines()[-3:])}")
        images = np.random.default_rng(1).random((4, 32, 32), np.float32)
        one, two = (
            np.stack([translate(load_generator(Path(scratch, ranks, paths.MODELS), direction), images, "t1") for direction in DIRECTIONS])
            for ranks in "12"
        )
        apart = float(np.abs(one - two).mean())
    return Check(name, apart <= RANKS_APART, f"translations {apart:.1e} apart from those of one in the mean")


def start_training(folder: Path, ranks: int = 1) -> subprocess.Popen[str]:
    """The training of the project in `folder`, without a tracker."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *launcher, str(Path(__file__).resolve())]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + START_SECONDS
    while not list(folder.glob("checkpoints/*/0*.pt")) and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.02)


class Untracked:
    """A tracker that drops everything."""

    id = "none"

    def log_metrics(self, *_: object) -> None: ...
    def log_image(self, *_: object, **__: object) -> None: ...
    def log_files(self, *_: object) -> None: ...
    def set_tags(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


def train_here() -> None:
    """Train the project in the working folder."""
    from pipeline.training.job import train

    train(params.load(), Stop(), lambda *_: Untracked(), lambda _, file: file.write_text("{}"))


if __name__ == "__main__":
    train_here()
