"""Time and memory of the evaluation of 60 and of 240 registered pairs at 256×256, both ways, small generator (ResNet-6, width 16).

By hand, on an idle machine: python benchmarks/evaluate.py. Each runs in a process of its own; its peak memory is that of the process.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

SIZE, HEADS = 256, 12  # simulated heads, repeated mirrored, moved and darkened


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("pairs", "wall s", "user CPU s", "peak memory MiB", title="evaluation both ways, 256×256; bar: 240 in 90 s on 2 cores")
    with tempfile.TemporaryDirectory() as scratch:
        for count in (60, 240):
            make(Path(scratch, str(count)), count)
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
            command = [sys.executable, __file__, "score"]
            printed = subprocess.run(command, cwd=Path(scratch, str(count)), check=True, stdout=subprocess.PIPE, text=True).stdout
            wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            table.add_row(str(count), f"{wall:.0f}", f"{used:.0f}", printed.strip().splitlines()[-1])
    Console().print(table)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def make(folder: Path, count: int) -> None:
    """A project with `count` registered pairs."""
    from pipeline import phantom
    from tests.evaluation import projects
    from tests.training import jobs

    heads = [phantom.render_pair(phantom.simulate(seed, size=SIZE), seed) for seed in range(HEADS)]
    images = {name: np.stack([varied(heads[n % HEADS][side], n // HEADS) for n in range(count)]) for side, name in enumerate(("ct", "mr"))}
    model = jobs.PARAMS.model.model_copy(update={"generator": "resnet_6", "generator_width": 16})
    projects.make_project(folder, images, model=model)


def varied(picture: np.ndarray, turn: int) -> np.ndarray:
    moved = np.roll(picture[:, :: -1 if turn % 2 else 1], turn, axis=turn % 2)
    return (moved * (1 - 0.01 * turn)).astype(np.uint8)


def score() -> None:
    """Evaluate the project in the working folder; prints the peak memory in MiB."""
    from pipeline.evaluation.report import evaluate
    from pipeline.params import load

    evaluate(load().evaluate)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


if __name__ == "__main__":
    score() if sys.argv[1:] == ["score"] else main()
