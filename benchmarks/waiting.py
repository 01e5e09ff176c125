"""How much of a training step goes into its data: simulated pairs drawn and slices read, on the CPU, by the cores that train.

python benchmarks/waiting.py kaggle-cpu [--slices FOLDER] [--steps 60] [--threads 2]

The share of the time that passed is more than that of the processor's time where the disk is waited for. FOLDER holds what the
preprocess stage (or `python -m pipeline.training.box`) stored for these params, by default data/slices.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.gpu_checks import Untracked
from pipeline import params, paths, presets
from pipeline.processes import Stop
from pipeline.training.feed import Data, Inputs
from pipeline.training.loop import Training

WARM_UP = 5  # first steps of each phase, which fill caches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset")
    parser.add_argument("--slices", type=Path, default=paths.SLICES)
    parser.add_argument("--steps", type=int, default=60, help="of each phase")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    chosen = params.parse(presets.nest(presets.complete([asked.preset])), asked.preset)
    images = (WARM_UP + asked.steps) * chosen.train.batch_size
    teacher = chosen.train.teacher.model_copy(update={"images": images})
    rare = {"images": images if chosen.train.images else 0, "sample_images": 10**9, "checkpoint_seconds": 1e9, "teacher": teacher}
    chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"epochs": None, **rare})})
    print(f"{asked.preset}, {asked.threads} threads, {chosen.train.batch_size} slices a step")
    print(f"{'phase':10}{'ms a step':>10}{'CPU ms a step':>15}{'data, of time':>15}{'data, of CPU':>14}")
    with tempfile.TemporaryDirectory() as folder:
        data = Data.load(with_teacher=True, folder=asked.slices, with_slices=chosen.train.images > 0)
        training = Training(chosen, Path(folder), torch.device("cpu"), data)
        running, feed = training.run(Untracked(), Stop()), Timed(training)
        for phase in ("teacher", "unpaired") if chosen.train.images else ("teacher",):
            for _ in range(WARM_UP):
                next(running)
            start, feed.spent = now(), np.zeros(2)
            for _ in range(asked.steps - 1):  # the very last step validates
                next(running)
            whole = now() - start
            (passed, cpu), (of_time, of_cpu) = 1000 * whole / (asked.steps - 1), feed.spent / whole
            print(f"{phase:10}{passed:10.1f}{cpu:15.1f}{of_time:15.1%}{of_cpu:14.1%}", flush=True)
            next(running)


def now() -> NDArray[np.float64]:
    """Seconds on the clock, and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


class Timed:
    """Counts the seconds, on the clock and of the processor, that a training spends in its feed."""

    def __init__(self, training: Training) -> None:
        self.spent, self.inputs = np.zeros(2), training.feed.inputs
        training.feed.inputs = self.time_inputs  # type: ignore[method-assign]

    def time_inputs(self, step: int) -> Inputs:
        start = now()
        inputs = self.inputs(step)
        self.spent += now() - start
        return inputs


if __name__ == "__main__":
    main()
