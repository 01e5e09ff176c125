"""Whether training is right on this machine's card, and how fast: python benchmarks/gpu.py, in at most 8 minutes.

Needs nothing beyond the lock and no data. Prints the checks, then a table that goes into benchmarks/RESULTS.md as it is. Ratios are pairs a
second over the plain float32 step of the paper, with one slice of each modality, at the same size. Share: the operations of that step, of
the rate of a plain bfloat16 matrix product on the same card. Without a card it rehearses itself on the CPU, with tiny networks: those
figures say nothing.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_checks import Check, check_all
from benchmarks.made_slices import make_project
from benchmarks.train_step import Task, new_learner, product_rate, reference, work
from pipeline.models.fast import speed_up
from pipeline.models.fast.precision import allow_tf32, be_deterministic
from pipeline.models.fast.ranks import ALONE
from pipeline.models.generator import build_generator
from pipeline.models.inference import translate
from pipeline.params import Params
from pipeline.training.data import Slices
from pipeline.training.feed import Data, Feed
from pipeline.training.simulated_pairs import SimulatedHeads

REFERENCE = "reference float32"
HOW = {  # cuda_graphs, compile, bfloat16
    "float32": (False, False, False),
    "bfloat16": (False, False, True),
    "bfloat16, CUDA graphs": (True, False, True),
    "bfloat16, compiled": (False, True, True),
    "bfloat16, compiled, CUDA graphs": (True, True, True),
}
WARM_UP, LEAST_STEPS, LEAST_SECONDS = 5, 3, 0.5
VOLUME = 160  # slices
GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What is measured: the card's own sizes, or tiny ones for a rehearsal."""

    device: torch.device
    pixels: tuple[int, ...] = (256, 128)
    batches: tuple[int, ...] = (16, 1, 64, 4)  # the most telling ones first, should time run out
    width: int = 64
    generator: str = "resnet_9"
    volume: int = VOLUME
    how: tuple[str, ...] = tuple(HOW)

    @property
    def measured(self) -> bool:
        return self.device.type == "cuda"

    def task(self, pixels: int, count: int = 1) -> Task:
        return Task(self.device, pixels, self.width, count, self.generator)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    pixels: int
    what: str
    batch: int
    seconds: float  # a step
    memory: float | None  # GiB at most

    @property
    def pairs(self) -> float:
        return self.batch / self.seconds


class Clock:
    """How much of the time is left; `longest` is that of the slowest thing so far."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.longest: dict[bool, float] = {}

    def has_time(self, compiled: bool) -> bool:
        return time.monotonic() + 1.3 * self.longest.get(compiled, 0.0) < self.end

    def note(self, compiled: bool, began: float) -> None:
        self.longest[compiled] = max(self.longest.get(compiled, 0.0), time.monotonic() - began)


def measure_steps(plan: Plan, clock: Clock) -> Iterator[Row | str]:
    """The unpaired step alone, each way and size; a text where one could not be measured. What is compiled comes last: it takes longest."""
    for pixels in plan.pixels:
        yield measure(plan, pixels, REFERENCE, 1, reference(plan.task(pixels)))
    sizes = [(pixels, count) for pixels in plan.pixels for count in plan.batches]
    for compiled in (False, True):
        for pixels, count in sizes:
            for how in (name for name in plan.how if HOW[name][1] is compiled):
                name = f"{how}, {count} at {pixels}"
                began = time.monotonic()
                if not clock.has_time(compiled):
                    yield f"{name}: no time left"
                    continue
                try:
                    yield measure(plan, pixels, how, count, new_step(plan.task(pixels, count), how))
                except torch.cuda.OutOfMemoryError:
                    yield f"{name}: does not fit into the card's memory"
                clock.note(compiled, began)
                if compiled:
                    torch.compiler.reset()
                release()


def new_step(task: Task, how: str) -> Callable[[], object]:
    """The unpaired step on random slices, with networks of its own."""
    graphs, compiled, bfloat16 = HOW[how]
    learner, batch = new_learner(task, cuda_graphs=graphs, compile=compiled)
    random = torch.Generator()

    def step() -> None:
        learner.set_learning_rate(1e-4)
        with torch.autocast(task.device.type, torch.bfloat16, enabled=bfloat16):
            learner.step(batch, None, random)

    return step


def measure_parts(plan: Plan) -> Iterator[Row]:
    """Of a training with teacher at the largest size: batches made on the card, the teacher's step, the unpaired one, and all at once."""
    pixels, count = plan.pixels[0], plan.batches[0]
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"preprocess.pixels": pixels, "train.batch_size": count, "train.affine": True, "train.crop": 0.1}
        made = make_project(Path(scratch), settings)
        feed = new_feed(made, Path(scratch, "data/slices"), plan.device)
        how = "bfloat16, CUDA graphs"
        learner, _ = new_learner(plan.task(pixels, count), cuda_graphs=HOW[how][0])
        random, numbers = torch.Generator(), iter(range(1, 10**6))
        batch, pairs, _ = feed.inputs(0)
        assert batch is not None
        assert pairs is not None

        def step_on_new() -> None:
            slices, drawn, _ = feed.inputs(next(numbers))  # made in float32, as a training does
            assert slices is not None
            with bfloat16(plan):
                learner.step(slices, drawn, random)

        def step(taught: bool) -> None:
            with bfloat16(plan):
                learner.teach(pairs) if taught else learner.step(batch, None, random)

        parts: dict[str, Callable[[], object]] = {
            "slices and pairs made": lambda: feed.inputs(next(numbers)),
            f"teacher's step, {how}": lambda: step(True),
            f"unpaired step, {how}": lambda: step(False),
            f"both, and made, {how}": step_on_new,
        }
        for name, part in parts.items():
            yield measure(plan, pixels, name, count, part)
        release()


def bfloat16(plan: Plan, wanted: bool = True) -> torch.autocast:
    return torch.autocast(plan.device.type, torch.bfloat16, enabled=wanted)


def new_feed(made: Params, slices: Path, device: torch.device) -> Feed:
    """Slices and simulated heads, held on the card."""
    return Feed(Data(Slices("train", slices), None, SimulatedHeads("teacher", slices), None), made.train, device, ALONE)


def measure_volume(plan: Plan) -> Iterator[Row]:
    """A full-size generator over a volume of random slices."""
    pixels = plan.pixels[0]
    task = plan.task(pixels)
    generator = speed_up(build_generator(task.model(), "mr_to_ct"), plan.device).eval()
    images = np.random.default_rng(0).random((plan.volume, pixels, pixels), np.float32)
    for name in ("float32", "bfloat16"):
        with bfloat16(plan, name == "bfloat16"):
            yield measure(plan, pixels, f"volume translated, {name}", plan.volume, lambda: translate(generator, images))


def measure(plan: Plan, pixels: int, what: str, count: int, step: Callable[[], object]) -> Row:
    """Seconds of a step after the warm-up, launched without waiting in between, and the memory that it takes at most."""
    if not plan.measured:
        return Row(pixels, what, count, time_steps(plan, step, 1), None)
    torch.cuda.reset_peak_memory_stats()
    seconds = time_steps(plan, step, WARM_UP) / WARM_UP
    rounds = max(LEAST_STEPS, int(LEAST_SECONDS / seconds))
    return Row(pixels, what, count, time_steps(plan, step, rounds) / rounds, torch.cuda.max_memory_allocated() / GIB)


def time_steps(plan: Plan, step: Callable[[], object], rounds: int) -> float:
    """Seconds of `rounds` steps."""
    if plan.measured:
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(rounds):
        step()
    if plan.measured:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def release() -> None:
    """Give back what the last networks held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def write_table(plan: Plan, rows: list[Row], rate: float) -> Iterator[str]:
    """The table, line by line; `rate` is that of the card's bfloat16 matrix product."""
    yield "| pixels | what | batch | ms a step | pairs/s | ratio | share | GiB |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    operations = {pixels: work(plan.task(pixels)) for pixels in plan.pixels}
    plain = {row.pixels: row.pairs for row in rows if row.what == REFERENCE}
    order = [REFERENCE, *HOW]
    for row in sorted(rows, key=lambda row: (order.index(row.what) if row.what in order else len(order), row.pixels, row.batch)):
        share = f"{row.pairs * operations[row.pixels] / rate:.2f}" if row.what in order else ""
        ratio = f"{row.pairs / plain[row.pixels]:.2f}" if row.what in order else ""
        memory = f"{row.memory:.1f}" if row.memory is not None else ""
        yield f"| {row.pixels} | {row.what} | {row.batch} | {1000 * row.seconds:.1f} | {row.pairs:.1f} | {ratio} | {share} | {memory} |"


def describe(plan: Plan) -> str:
    """Where this runs."""
    if not plan.measured:
        return f"rehearsal on a CPU, unmeasured on a card; torch {torch.__version__}"
    card = torch.cuda.get_device_properties(plan.device)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}"
    return f"{torch.cuda.device_count()} × {card.name}, {card.total_memory / GIB:.0f} GiB, {versions}"


def show(check: Check) -> str:
    verdict = {True: "right", False: "WRONG", None: "not checked"}[check.right]
    return f"{verdict}: {check.name}: {check.found}"


def run(plan: Plan, clock: Clock) -> None:
    """Measure and print all."""
    allow_tf32(False)
    if plan.measured:
        be_deterministic(False)
    rate = product_rate(plan.device, torch.bfloat16, 8192 if plan.measured else 256)
    print(f"bfloat16 matrix product: {rate / 1e12:.2f}e12 operations a second", flush=True)
    rows: list[Row] = []
    for part in (measure_parts(plan), measure_volume(plan), measure_steps(plan, clock)):
        for row in part:
            if isinstance(row, Row):
                rows.append(row)
                print(f"  {row.what}, {row.batch} at {row.pixels}: {1000 * row.seconds:.1f} ms", flush=True)
            else:
                print(f"  {row}", flush=True)
    print("\n".join(write_table(plan, rows, rate)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=7.5, help="no measurement begins that would end later")
    parser.add_argument("--rehearse", action="store_true", help="tiny, on the CPU, though there is a card")
    asked = parser.parse_args()
    clock = Clock(asked.minutes)
    rehearsal = asked.rehearse or not torch.cuda.is_available()
    device = torch.device("cpu" if rehearsal else "cuda")
    plan = Plan(device, (64, 32), (2, 1), 4, "resnet_6", 4) if rehearsal else Plan(device)
    print(describe(plan), flush=True)
    checks = []
    for check in check_all(device):
        checks.append(check)
        print(show(check), flush=True)
    run(plan, clock)
    return int(any(check.right is False for check in checks))


if __name__ == "__main__":
    raise SystemExit(main())
