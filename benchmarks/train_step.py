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

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.plain_step import as_pytorch, reference_update, with_plain_optimisers
from pipeline import params
from pipeline.models.cyclegan import Batch
from pipeline.models.fast.precision import cpu_has_bfloat16
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from pipeline.training.loop import Data, Training

PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
GIB = 2**30
OVERHEAD_STEPS = 6
REFERENCE = "reference float32"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


Step = Callable[[], object]


def new_learner(asked: argparse.Namespace, count: int, compiled: bool = False) -> tuple[Learner, Batch]:
    """ResNet-9 with all losses, the contrast condition on, and `count` random slices of each modality."""
    widths = {"generator_width": asked.width, "discriminator_width": asked.width}
    model = PARAMS.model.model_copy(update={"generator": "resnet_9", "discriminator_layers": 3, **widths})
    train = PARAMS.train.model_copy(update={"compile": compiled, "lambda_identity": 0.5})
    images = torch.rand(2, count, 1, asked.size, asked.size, device=DEVICE) * 2 - 1
    batch = Batch(
        images[0], images[1], torch.eye(4, device=DEVICE)[:1].repeat(count, 1), torch.tensor([WHOLE], device=DEVICE).repeat(count, 1)
    )
    return Learner(model, train, DEVICE), batch


def steps(asked: argparse.Namespace) -> dict[tuple[str, int], Step]:
    """What is compared, by name and batch size; each with networks of its own."""

    def fast(count: int, compiled: bool, bfloat16: bool, channels_last: bool = False) -> Step:
        learner, batch = new_learner(asked, count, compiled)
        if channels_last:
            learner.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def step() -> None:
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16):
                learner.step(batch, None, torch.Generator())

        return step

    rows: dict[tuple[str, int], Step] = {(REFERENCE, 1): reference(asked)}
    for count in asked.batch:
        rows["fast float32", count] = fast(count, False, False)
        if asked.all:
            rows["fast float32 channels last", count] = fast(count, False, False, True)
            rows["fast float32 compiled", count] = fast(count, True, False)
        if DEVICE.type == "cuda" or asked.all or cpu_has_bfloat16():
            rows["fast bfloat16", count] = fast(count, False, True)
        if DEVICE.type == "cuda":
            rows["fast bfloat16 compiled", count] = fast(count, True, True)
    return rows


def reference(asked: argparse.Namespace) -> Step:
    """The plain float32 step, one slice of each modality."""
    plain, batch = new_learner(asked, 1)
    as_pytorch(with_plain_optimisers(plain).networks)
    return lambda: reference_update(plain, batch)


def work(asked: argparse.Namespace) -> float:
    """Floating-point operations of the reference step."""
    with FlopCounterMode(display=False) as counted:
        reference(asked)()
    return float(counted.get_total_flops())


def product_rate(kind: torch.dtype) -> float:
    """Operations a second of the device's own matrix product, the best of ten."""
    side = 8192 if DEVICE.type == "cuda" else 2048
    left, right = torch.rand(2, side, side, device=DEVICE).to(kind)
    return 2 * side**3 / min(once(lambda: left @ right) for _ in range(10))


def once(step: Step) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(asked: argparse.Namespace) -> float:
    """GiB at most of a process that makes two fast steps with a slice of each modality at 256×256."""
    if DEVICE.type == "cpu":
        command = [sys.executable, __file__, "--peak", "--size=256", f"--width={asked.width}"]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return two_steps(argparse.Namespace(**vars(asked) | {"size": 256}))


def two_steps(asked: argparse.Namespace) -> float:
    learner, batch = new_learner(asked, 1)
    for _ in range(2):
        learner.step(batch, None, torch.Generator())
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Untracked:
    """A tracker that drops everything."""

    id = "none"

    def log_metrics(self, *_: object) -> None: ...
    def log_image(self, *_: object, **__: object) -> None: ...
    def log_folder(self, *_: object) -> None: ...
    def set_tags(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


def write_slices(folder: Path, pixels: int) -> None:
    """Random slices as the preprocess stage leaves them."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for modality in ("ct", "mr"):
            np.save(folder / f"{split}_{modality}.npy", random.integers(0, 256, (4, pixels, pixels), dtype=np.uint8))
    lines = [{"split": split, "modality": "mr", "row": row, "contrast": "t1"} for split in ("train", "val") for row in range(4)]
    pd.DataFrame(lines).to_parquet(folder / "index.parquet")


def overhead(asked: argparse.Namespace) -> float:
    """Share of the loop's time that is not the step: batches, checks, curves."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_slices(folder, asked.size)
        widths = {"generator": "resnet_9", "generator_width": asked.width, "discriminator_width": asked.width}
        rare = {"batch_size": 1, "sample_images": 10**6, "checkpoint_seconds": 1e6, "images": 10**6, "lambda_identity": 0.5}
        train = PARAMS.train.model_copy(update=rare | {"teacher": PARAMS.train.teacher.model_copy(update={"images": 0})})
        changed = PARAMS.model_copy(update={"train": train, "model": PARAMS.model.model_copy(update=widths)})
        training = Training(changed, folder / "checkpoints", DEVICE, Data.load(with_teacher=False, folder=folder))
        plain, inside = training.learner.step, 0.0

        def timed(*inputs: object) -> object:
            nonlocal inside
            result: list[object] = []
            inside += once(lambda: result.append(plain(*inputs)))  # type: ignore[arg-type]
            return result[0]

        training.learner.step = timed  # type: ignore[assignment, method-assign]
        running = training.run(Untracked(), threading.Event())
        next(running)
        start, inside = time.perf_counter(), 0.0
        for _ in range(OVERHEAD_STEPS):
            next(running)
        return (time.perf_counter() - start) / inside - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gpu = DEVICE.type == "cuda"
    parser.add_argument("--size", type=int, default=256 if gpu else 128, help="pixels a side")
    parser.add_argument("--width", type=int, default=64, help="feature maps of the first layers")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16] if gpu else [1, 4], help="slices of each modality in a fast step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--all", action="store_true", help="also what does not help on a CPU")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(two_steps(asked))
        return
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; resnet_9 width {asked.width}, {asked.size}x{asked.size}", flush=True)
    memory = peak(asked)  # first: Linux counts what a process held when it started another as the other's
    operations, best = work(asked), product_rate(torch.bfloat16 if gpu else torch.float32)
    rows = steps(asked)
    times: dict[tuple[str, int], list[float]] = {row: [] for row in rows}
    for repeat in range(asked.repeats + 1):  # turn by turn, so that other load on the machine meets all alike; the first warms up
        for row, step in rows.items():
            seconds = once(step)
            if repeat:
                times[row].append(seconds)
    typical = {row: sorted(seconds)[len(seconds) // 2] for row, seconds in times.items()}
    print(f"{'step':28}{'batch':>6}{'seconds':>10}{'pairs/s':>10}{'ratio':>8}{'share':>8}")
    for (kind, count), seconds in typical.items():
        rate = count / seconds
        ratio, share = rate * typical[REFERENCE, 1], rate * operations / best
        print(f"{kind:28}{count:6}{seconds:10.3f}{rate:10.2f}{ratio:8.2f}{share:8.2f}")
    of = "bfloat16" if gpu else "float32"
    print(f"share: operations of the reference step, of the {best / 1e12:.2f}e12 a second that a plain {of} matrix product makes")
    print(f"loop beyond the step: {100 * overhead(asked):.1f} %", flush=True)
    print(f"memory at 256x256, batch 1: {memory:.2f} GiB")


if __name__ == "__main__":
    main()
