"""Simulated pairs for the teacher: damaged and framed as real slices are, but pixel-aligned, so that a network can learn what is where."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.formats.slices import Slice
from pipeline.imaging import head
from pipeline.imaging.head import Box
from pipeline.imaging.outline import Outline
from pipeline.imaging.prepare import NoHead, find_outline, prepare
from pipeline.parallel import in_parallel

PAIRS_PER_TASK = 16
FIRST_SEED = 2**40  # far from the seeds of data.phantom, whose heads are the demo's data
HELD_OUT_SEEDS = 2**31  # from the seed of a training pair to that of a held-out one
MOST_HELD_OUT = 32
REDRAW = 2**32  # from the seed of a slice that shows no head to the next that is tried
SMALLEST = 128  # pixels a side that a head is drawn with, even for smaller network pictures
JITTER = 0.02  # standard deviation of the box's place and size, share of its side: how far boxes of real slices scatter


def build(folder: Path, preprocess: params.Preprocess, workers: int | None = None, meanwhile: Callable[[], object] | None = None) -> None:
    """Write teacher_{ct,mr}.npy and teacher_index.parquet (row, contrast, seed) with `preprocess.teacher_pairs` pairs; nothing for 0.

    Beside them lie as many files teacher_val_* with some more pairs, by which training is judged. `meanwhile` as for `in_parallel`.
    """
    count = preprocess.teacher_pairs
    if not count:
        return
    from pipeline.phantom.atlas import load_atlas

    load_atlas()  # read once here, and not in each of the processes
    _build(folder, "teacher", count, 0, preprocess, workers, meanwhile)
    held_out = min(MOST_HELD_OUT, max(4, count // 10))
    _build(folder, paths.HELD_OUT, held_out, HELD_OUT_SEEDS, preprocess, workers, None)


def _build(
    folder: Path,
    kind: str,
    count: int,
    seeds: int,
    preprocess: params.Preprocess,
    workers: int | None,
    meanwhile: Callable[[], object] | None,
) -> None:
    """Files of one `kind`; `seeds` is added to the row to get the seed of a pair."""
    import pandas as pd

    files = {
        modality: slice_arrays.create(folder, paths.slices(kind, modality).name, count, preprocess.pixels, preprocess.bits)
        for modality in paths.MODALITIES
    }
    tasks = [(range(first, min(first + PAIRS_PER_TASK, count)), seeds, preprocess) for first in range(0, count, PAIRS_PER_TASK)]
    lines = []
    for (rows, *_), pairs in zip(tasks, in_parallel(_simulate_rows, tasks, workers, meanwhile), strict=True):
        for row, (pictures, contrast, seed) in zip(rows, pairs, strict=True):
            for picture, file in zip(pictures, files.values(), strict=True):
                slice_arrays.write_rows(file, [row], [picture])
            lines.append({"row": row, "contrast": contrast, "seed": seed})
    index = pd.DataFrame(lines)
    index.to_parquet(folder / f"{kind}_index.parquet", index=False)


def _simulate_rows(task: tuple[range, int, params.Preprocess]) -> list[tuple[list[NDArray[np.unsignedinteger]], str, int]]:
    """Simulate some rows: each one's pictures of CT and MR as they are stored, its contrast and seed."""
    rows, seeds, preprocess = task
    pairs = []
    for row in rows:
        pictures, outlines, contrast, seed = _simulate(seeds + row, preprocess.pixels)
        # The box comes from one modality, as at translation, where only one is there to find it in.
        random = np.random.default_rng([seed, 2])
        framing = int(random.integers(2))
        box = _jittered(head.enclose(outlines[framing], paths.MODALITIES[framing], preprocess.margin, preprocess.upright), random)
        stored = [
            slice_arrays.quantise(prepare(picture, modality, preprocess, box, outline).array, slice_arrays.stored_type(preprocess.bits))
            for picture, outline, modality in zip(pictures, outlines, paths.MODALITIES, strict=True)
        ]
        pairs.append((stored, contrast, seed))
    return pairs


def _simulate(row: int, size: int) -> tuple[list[Slice], list[Outline], str, int]:
    """CT and MR picture of a simulated slice with their heads' outlines, its contrast and seed.

    A slice so high that it shows no head is drawn anew.
    """
    from pipeline import phantom

    for seed in itertools.count(FIRST_SEED + row, REDRAW):
        simulated = phantom.simulate(seed, size=max(SMALLEST, size))
        pictures = [Slice((picture / np.float32(255)).astype(np.float32)) for picture in phantom.render_pair(simulated, seed)]
        try:
            outlines = [find_outline(picture, modality) for picture, modality in zip(pictures, paths.MODALITIES, strict=True)]
        except NoHead:
            continue
        return pictures, outlines, simulated.contrast, seed
    raise AssertionError("itertools.count ended")


def _jittered(box: Box, random: np.random.Generator) -> Box:
    down, right, wider = random.normal(0, JITTER, 3) * box.side
    return Box(box.top + down - wider / 2, box.left + right - wider / 2, box.side + wider, box.rotation)
