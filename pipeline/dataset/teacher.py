"""Simulated heads for the teacher: tissue shares, from which training draws pairs of any look (see `pipeline/training/render.py`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.parallel import in_parallel
from pipeline.params import Preprocess
from pipeline.phantom.atlas import load_atlas
from pipeline.phantom.heads import simulate_shares
from pipeline.phantom.shares import CHANNELS, grid_shape

HEADS_PER_TASK = 16
FIRST_SEED = 2**40  # far from the seeds of data.phantom, whose heads are the demo's data
HELD_OUT_SEEDS = 2**31  # from the seed of a training head to that of a held-out one
MOST_HELD_OUT = 64


def build(folder: Path, preprocess: Preprocess, workers: int | None = None, meanwhile: Callable[[], object] | None = None) -> None:
    """Write teacher_shares.npy and teacher_index.parquet with `preprocess.teacher_pairs` simulated slices; nothing for 0.

    The array (N, channels, h, w) holds what `phantom.shares` says of each; the index has row, seed, orientation, thickness (mm) and where
    the head lies: `down` and `right` of the grid's middle and its longer `side`, mm. Beside them lie as many files teacher_val_* with
    some more heads, by which training is judged. `meanwhile` as for `in_parallel`.
    """
    count = preprocess.teacher_pairs
    if not count:
        return
    load_atlas()  # read once here, and not in each of the processes
    _write(folder, "teacher", FIRST_SEED, count, preprocess, workers, meanwhile)
    held_out = min(MOST_HELD_OUT, max(4, count // 10))
    _write(folder, paths.HELD_OUT, FIRST_SEED + HELD_OUT_SEEDS, held_out, preprocess, workers, None)


def _write(
    folder: Path,
    kind: str,
    first_seed: int,
    count: int,
    preprocess: Preprocess,
    workers: int | None,
    meanwhile: Callable[[], object] | None,
) -> None:
    """Files of one `kind`; the seed of a row is `first_seed` + row."""
    file = slice_arrays.create(folder, f"{kind}_shares.npy", (count, CHANNELS, *grid_shape(preprocess.pixels)), np.dtype(np.uint8))
    ends = range(0, count, HEADS_PER_TASK)
    knobs = (first_seed, preprocess.pixels, preprocess.teacher_across)
    tasks = [(range(first, min(first + HEADS_PER_TASK, count)), *knobs) for first in ends]
    lines = []
    for (rows, *_), heads in zip(tasks, in_parallel(_simulate, tasks, workers, meanwhile), strict=True):
        slice_arrays.write_rows(file, rows, [shares for shares, _ in heads])
        lines += [{"row": row, **facts} for row, (_, facts) in zip(rows, heads, strict=True)]
    pd.DataFrame(lines).to_parquet(folder / f"{kind}_index.parquet", index=False)


def _simulate(task: tuple[range, int, int, float]) -> list[tuple[NDArray[np.uint8], dict[str, Any]]]:
    """Shares of some rows as they are stored, and their lines of the index."""
    rows, first_seed, pixels, across = task
    heads = []
    for row in rows:
        shares, facts = simulate_shares(first_seed + row, pixels, across)
        heads.append((shares.stack(), {"seed": first_seed + row, **facts}))
    return heads
