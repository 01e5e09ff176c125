"""How well work spreads over a Dask cluster: python benchmarks/cluster.py [--heads 64] [--rounds 3] [--workers 2 8 32 128].

First the real work of `preprocess`, simulated heads, on 1 and on 2 one-core workers and on 2 processes of the pool, in turn, so that other
work on the machine slows all of them alike; the figures are ratios of one run. Then tasks that only sleep for the time measured on one
worker and give back as many bytes, on ever more workers (threads of one process): what is lost there is the scheduler's.
"""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from distributed import LocalCluster
from numpy.typing import NDArray

from pipeline.dataset import teacher
from pipeline.parallel import SCHEDULER, in_parallel
from pipeline.params import load
from pipeline.phantom.atlas import load_atlas

PROJECT = Path(__file__).parents[1]
TASKS_EACH = 12  # sleeping tasks for each worker


@contextmanager
def workers(count: int, *, processes: bool) -> Iterator[None]:
    """A cluster of `count` workers of one thread, which in_parallel uses within the block; processes are warm."""
    quiet = {"silence_logs": logging.CRITICAL, "dashboard_address": ":0"}
    with LocalCluster(n_workers=count, threads_per_worker=1, processes=processes, **quiet) as cluster:  # type: ignore[no-untyped-call]
        os.environ[SCHEDULER] = cluster.scheduler_address
        try:
            if processes:
                list(in_parallel(warm_up, range(4 * count)))
            yield
        finally:
            del os.environ[SCHEDULER]


def warm_up(_: int) -> None:
    """What a worker imports and reads once."""
    load_atlas()


def build_heads(heads: int, processes: int | None = None) -> float:
    """Seconds to simulate and store so many heads; `processes` of the pool, None: the cluster."""
    preprocess = load(PROJECT / "params.yaml").preprocess.model_copy(update={"teacher_pairs": heads})
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        teacher.build(Path(folder), preprocess, workers=processes)
        return time.monotonic() - began


def compare(heads: int, rounds: int) -> float:
    """Print what a second worker gives, and what Dask costs; gives the seconds of a task."""
    seconds: dict[str, list[float]] = {"1 worker": [], "2 workers": [], "2 processes": []}
    load_atlas()
    for _ in range(rounds):
        for count in (1, 2):
            with workers(count, processes=True):
                seconds["1 worker" if count == 1 else "2 workers"].append(build_heads(heads))
        seconds["2 processes"].append(build_heads(heads, 2))
    for name, values in seconds.items():
        print(f"{name:>12}: {heads / median(values):6.1f} heads a second ({', '.join(f'{value:.1f}' for value in values)} s)", flush=True)
    gain = median(one / two for one, two in zip(seconds["1 worker"], seconds["2 workers"], strict=True))
    cost = median(two / pool for two, pool in zip(seconds["2 workers"], seconds["2 processes"], strict=True))
    print(f"2 workers are {gain:.2f} times as fast as 1; they take {cost:.2f} times as long as 2 processes of the pool")
    return median(seconds["1 worker"]) / (heads / teacher.HEADS_PER_TASK)


def sleep(task: tuple[float, int]) -> NDArray[np.uint8]:
    """A task's time and its bytes, without its work."""
    seconds, size = task
    time.sleep(seconds)
    return np.zeros(size, np.uint8)


def spread_sleep(count: int, seconds: float, size: int) -> float:
    """The share of the workers' time in which they worked."""
    with workers(count, processes=False):
        began = time.monotonic()
        for _ in in_parallel(sleep, [(seconds, size)] * (TASKS_EACH * count)):
            pass
        return TASKS_EACH * seconds / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[2, 8, 32, 128])
    parser.add_argument("--seconds", type=float, help="of a sleeping task; default: as measured")
    asked = parser.parse_args()
    seconds = compare(asked.heads, asked.rounds) if asked.rounds else 0.0
    seconds = asked.seconds or seconds
    size = teacher.HEADS_PER_TASK * 100_000  # of stored shares, about
    for count in asked.workers:
        share = spread_sleep(count, seconds, size)
        memory = psutil.Process().memory_info().rss / 2**20
        print(
            f"{count:>4} sleeping workers, {seconds:.2f} s and {size / 2**20:.1f} MiB a task: efficiency {share:.2f}, {memory:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
