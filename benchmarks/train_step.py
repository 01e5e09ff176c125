"""Speed and memory of one training step on the CPU against the plain one, written from the paper, in one run. For a card: gpu.py."""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_checks import Untracked
from benchmarks.made_slices import make_project
from benchmarks.plain_step import as_pytorch, reference_update, with_plain_optimisers
from pipeline import params, paths
from pipeline.models.cyclegan import Batch
from pipeline.models.fast.precision import cpu_has_bfloat16
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from pipeline.params import Model
from pipeline.processes import Stop
from pipeline.training.feed import Data
from pipeline.training.loop import Training

PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
CPU = torch.device("cpu")
OVERHEAD_STEPS = 6
REFERENCE = "reference float32"
Step = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """A step to be measured: full-size networks and `count` slices of each modality."""

    device: torch.device
    pixels: int
    width: int
    count: int = 1
    generator: str = "resnet_9"

    def model(self) -> Model:
        return PARAMS.model.model_copy(
            update={
                "generator": self.generator,
                "generator_width": self.width,
                "discriminator_width": self.width,
                "discriminator_layers": 3,
            }
        )


def new_learner(task: Task, **train: object) -> tuple[Learner, Batch]:
    """Networks with all losses and the contrast condition on, and random slices."""
    settings = PARAMS.train.model_copy(update={"lambda_identity": 0.5, **train})
    images = torch.rand(2, task.count, 1, task.pixels, task.pixels, device=task.device) * 2 - 1
    contrast, window = torch.eye(4, device=task.device)[:1], torch.tensor([WHOLE], device=task.device)
    batch = Batch(images[0], images[1], contrast.repeat(task.count, 1), window.repeat(task.count, 1))
    return Learner(task.model(), settings, task.device), batch


def reference(task: Task) -> Step:
    """The plain float32 step."""
    plain, batch = new_learner(task)
    as_pytorch(with_plain_optimisers(plain).networks)
    return lambda: reference_update(plain, batch)


def fast(task: Task, bfloat16: bool, channels_last: bool = False, compiled: bool = False) -> Step:
    """The step as training does it."""
    learner, batch = new_learner(task, compile=compiled)
    if channels_last:
        learner.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step() -> None:
        with torch.autocast(task.device.type, torch.bfloat16, enabled=bfloat16):
            learner.step(batch, None, torch.Generator())

    return step


def steps(task: Task, batches: list[int], everything: bool) -> dict[tuple[str, int], Step]:
    """What is compared, by name and batch size; each with networks of its own."""
    rows: dict[tuple[str, int], Step] = {(REFERENCE, 1): reference(task)}
    for count in batches:
        larger = replace(task, count=count)
        rows["fast float32", count] = fast(larger, False)
        if everything:
            rows["fast float32 channels last", count] = fast(larger, False, channels_last=True)
            rows["fast float32 compiled", count] = fast(larger, False, compiled=True)
        if everything or cpu_has_bfloat16():
            rows["fast bfloat16", count] = fast(larger, True)
    return rows


def work(task: Task) -> float:
    """Floating-point operations of the reference step with one slice of each modality."""
    step = reference(replace(task, count=1))
    with FlopCounterMode(display=False) as counted:
        step()
    return float(counted.get_total_flops())


def product_rate(device: torch.device, kind: torch.dtype, side: int) -> float:
    """Operations a second of the device's own matrix product, the best of ten."""
    left, right = torch.rand(2, side, side, device=device).to(kind)

    def once() -> float:
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return 2 * side**3 / min(once() for _ in range(10))


def time_once(step: Step) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak(task: Task) -> float:
    """GiB at most of a process that makes two fast steps."""
    command = [sys.executable, __file__, "--peak", f"--pixels={task.pixels}", f"--width={task.width}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def two_steps(task: Task) -> float:
    step = fast(task, False)
    for _ in range(2):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def overhead(task: Task) -> float:
    """Share of the loop's time that is not the step: batches, checks, curves."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rare = {"batch_size": 1, "sample_images": 10**6, "checkpoint_seconds": 1e6, "images": 10**6, "lambda_identity": 0.5}
        settings = {f"train.{name}": value for name, value in rare.items()} | {"preprocess.pixels": task.pixels, "train.teacher.images": 0}
        made = make_project(folder, settings, heads=0)
        changed = made.model_copy(update={"model": task.model()})
        data = Data.load(with_teacher=False, folder=folder / paths.SLICES)
        training = Training(changed, folder / "checkpoints", task.device, data)
        plain, inside = training.learner.step, 0.0

        def timed(*inputs: object) -> object:
            nonlocal inside
            result: list[object] = []
            inside += time_once(lambda: result.append(plain(*inputs)))  # type: ignore[arg-type]
            return result[0]

        training.learner.step = timed  # type: ignore[assignment, method-assign]
        running = training.run(Untracked(), Stop())
        next(running)
        start, inside = time.perf_counter(), 0.0
        for _ in range(OVERHEAD_STEPS):
            next(running)
        return (time.perf_counter() - start) / inside - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=128, help="a side")
    parser.add_argument("--width", type=int, default=64, help="feature maps of the first layers")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="slices of each modality in a fast step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="also what does not help on a CPU")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    task = Task(CPU, asked.pixels, asked.width)
    if asked.peak:
        print(two_steps(task))
        return
    memory = peak(replace(task, pixels=256))  # first: Linux counts what a process held when it started another as the other's
    operations, best = work(task), product_rate(CPU, torch.float32, 2048)
    rows = steps(task, asked.batch, asked.all)
    times: dict[tuple[str, int], list[float]] = {row: [] for row in rows}
    for repeat in range(asked.repeats + 1):  # turn by turn, so that other load on the machine meets all alike; the first warms up
        for row, step in rows.items():
            seconds = time_once(step)
            if repeat:
                times[row].append(seconds)
    typical = {row: sorted(seconds)[len(seconds) // 2] for row, seconds in times.items()}
    print(f"| ResNet-9, width {asked.width}, {asked.pixels}×{asked.pixels} | batch | ratio | share | pairs/s | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (kind, count), seconds in typical.items():
        rate = count / seconds
        ratio, share = rate * typical[REFERENCE, 1], rate * operations / best
        print(f"| {kind} | {count} | {ratio:.2f} | {share:.2f} | {rate:.2f} | {seconds:.3f} |")
    print()
    print(f"- share: the reference's operations, of the {best / 1e12:.2f}e12 a second that a plain float32 matrix product makes")
    print(f"- loop beyond the step: {100 * overhead(task):.1f} %", flush=True)
    print(f"- memory at 256×256, batch 1: {memory:.2f} GiB")


if __name__ == "__main__":
    main()
