"""Speed and memory of one training step against the plain one, written from the paper, in one run: `make bench`."""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.models.cyclegan import Batch, CycleGAN
from pipeline.training.data import Slices
from pipeline.training.loop import Data, Training
from tests.models.test_cyclegan import reference_update
from tests.models.test_winograd import as_pytorch
from tests.training import jobs

GIB = 2**30
OVERHEAD_STEPS = 6
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def networks(asked: argparse.Namespace, compiled: bool = False) -> tuple[CycleGAN, Batch]:
    """ResNet-9 with all losses, the contrast condition on, and random slices."""
    widths = {"generator_width": asked.width, "discriminator_width": asked.width}
    model = jobs.PARAMS.model.model_copy(update={"generator": "resnet_9", "discriminator_layers": 3, **widths})
    images = torch.rand(2, asked.batch, 1, asked.size, asked.size, device=DEVICE) * 2 - 1
    batch = Batch(images[0], images[1], torch.eye(4, device=DEVICE)[:1].repeat(asked.batch, 1))
    return CycleGAN(model, jobs.PARAMS.train.model_copy(update={"compile": compiled}), DEVICE), batch


def steps(asked: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is compared, by name; each with networks of its own."""

    def fast(compiled: bool, bfloat16: bool, channels_last: bool = False) -> Callable[[], object]:
        made, batch = networks(asked, compiled)
        if channels_last:
            for part in (made.generators, made.discriminators):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def step() -> None:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16):
                made.step(batch, None, torch.Generator())

        return step

    plain, batch = networks(asked)
    as_pytorch(plain.generators)
    rows: dict[str, Callable[[], object]] = {
        "reference float32": lambda: reference_update(plain, batch),
        "fast float32": fast(False, False),
    }
    if asked.all:
        rows["fast float32 channels last"] = fast(False, False, True)
        rows["fast float32 compiled"] = fast(True, False)
    if DEVICE.type == "cuda" or asked.all:
        rows["fast bfloat16"] = fast(False, True)
    if DEVICE.type == "cuda":
        rows["fast bfloat16 compiled"] = fast(True, True)
    return rows


def once(step: Callable[[], object]) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(asked: argparse.Namespace) -> float:
    """GiB at most of a process that makes two fast steps."""
    if DEVICE.type == "cpu":
        command = [sys.executable, __file__, "--peak", *(f"--{name}={getattr(asked, name)}" for name in ("size", "width", "batch"))]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return two_steps(asked)


def two_steps(asked: argparse.Namespace) -> float:
    made, batch = networks(asked)
    for _ in range(2):
        made.step(batch, None, torch.Generator())
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Untracked:
    id = "none"

    def log_metrics(self, *_: object) -> None: ...

    def log_image(self, *_: object, **__: object) -> None: ...


def overhead(asked: argparse.Namespace) -> float:
    """Share of the loop's time that is not the step: batches, checks, curves."""
    with tempfile.TemporaryDirectory() as folder:
        slices = jobs.make(Path(folder), size=asked.size) / "data/slices"
        widths = {"generator": "resnet_9", "generator_width": asked.width, "discriminator_width": asked.width}
        rare = {"batch_size": asked.batch, "sample_images": 10**6, "checkpoint_seconds": 1e6, "images": 10**6}
        train = jobs.PARAMS.train.model_copy(update=rare | {"teacher": jobs.PARAMS.train.teacher.model_copy(update={"images": 0})})
        of = jobs.PARAMS.model_copy(update={"train": train, "model": jobs.PARAMS.model.model_copy(update=widths)})
        kinds = ("train", "val", "teacher", "teacher_val")
        training = Training(of, Path(folder) / "checkpoints", DEVICE, Data(*(Slices(kind, slices) for kind in kinds)))
        plain, inside = training.networks.step, 0.0

        def timed(*given: object) -> object:
            nonlocal inside
            result: list[object] = []
            inside += once(lambda: result.append(plain(*given)))  # type: ignore[arg-type]
            return result[0]

        training.networks.step = timed  # type: ignore[assignment, method-assign]
        running = training.run(Untracked(), threading.Event())  # type: ignore[arg-type]
        next(running)
        start, inside = time.perf_counter(), 0.0
        for _ in range(OVERHEAD_STEPS):
            next(running)
        return (time.perf_counter() - start) / inside - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--width", type=int, default=64, help="feature maps of the first layers")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="also what does not help on a CPU: compiled, channels last, bfloat16")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(two_steps(asked))
        return
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; resnet_9 width {asked.width}, {asked.size}x{asked.size}, batch {asked.batch}", flush=True)
    rows = steps(asked)
    taken: dict[str, list[float]] = {kind: [] for kind in rows}
    for repeat in range(asked.repeats + 1):  # turn by turn, so that other load on the machine meets all alike; the first warms up
        for kind, step in rows.items():
            seconds = once(step)
            if repeat:
                taken[kind].append(seconds)
    typical = {kind: sorted(times)[len(times) // 2] for kind, times in taken.items()}
    print(f"{'step':28}{'seconds':>10}{'pairs/s':>10}{'ratio':>8}")
    for kind, seconds in typical.items():
        print(f"{kind:28}{seconds:10.3f}{asked.batch / seconds:10.2f}{typical['reference float32'] / seconds:8.2f}")
    print(f"loop beyond the step: {100 * overhead(asked):.1f} %", flush=True)
    asked.size, asked.batch = 256, 1
    print(f"memory at 256x256, batch 1: {peak(asked):.2f} GiB")


if __name__ == "__main__":
    main()
