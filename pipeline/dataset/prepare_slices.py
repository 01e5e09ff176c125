"""data/slices: every slice of the split, prepared and stored, and both sides of registered pairs in one place."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.dataset.partners import Partner, find_known, measure_offset, move_onto
from pipeline.formats.table import read_slices
from pipeline.imaging import intensity
from pipeline.imaging.head import Box
from pipeline.imaging.outline import Outline
from pipeline.imaging.prepare import prepare
from pipeline.parallel import in_parallel

SLICES_PER_TASK = 8
STORED = ["stored_mean", "stored_largest", "stored_head"]  # what is checked of each stored slice, as displayed


@dataclass(frozen=True)
class Job:
    """One slice to prepare: from `path`, frame `frame`, with the head's outline as the manifest has it, into row `row` of `file`.

    `partner`: the slice on whose pixels, cut by whose `box`, it is wanted. `known`: the file whose row says where it is known there.
    """

    path: Path
    frame: int
    modality: str
    file: Path
    row: int
    outline: list[float]
    box: Box | None = None
    partner: Partner | None = None
    known: Path | None = None


def fill(
    folder: Path,
    slices: pd.DataFrame,
    preprocess: params.Preprocess,
    raw: Path,
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
    pairs_in: Sequence[str] = ("test",),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write {split}_{modality}.npy, what `_write_partners` does, and index.parquet; gives the index and what was STORED of each slice.

    `slices`: manifest joined with the split (slice_id, modality, split, path, frame, group, contrast, contrast_confidence, height, width,
    pair, outline). `meanwhile` as for `in_parallel`. `pairs_in`: the splits whose registered pairs count as pairs; elsewhere CT and MR of
    a patient are unpaired.
    """
    index = slices.sort_values(["split", "modality", "slice_id"]).reset_index(drop=True)
    index["row"] = index.groupby(["split", "modality"]).cumcount()
    files, square = {}, (preprocess.pixels, preprocess.pixels)
    for split in paths.SPLITS:
        for modality in paths.MODALITIES:
            count = int(((index["split"] == split) & (index["modality"] == modality)).sum())
            name = paths.slices(split, modality).name
            files[split, modality] = slice_arrays.create(folder, name, (count, *square), slice_arrays.STORED)
    jobs = [
        Job(raw / line["path"], line["frame"], line["modality"], files[line["split"], line["modality"]], line["row"], line["outline"])
        for line in index.to_dict("records")
    ]
    prepared = pd.DataFrame(_run(jobs, preprocess, workers, meanwhile))
    index = pd.concat([index, prepared.drop(columns=STORED)], axis=1)
    index["pair"] = _number_pairs(index, pairs_in)
    index["offset"] = np.nan
    for split in pairs_in:
        paired = index[(index["split"] == split) & (index["pair"] >= 0)].sort_values("pair")
        if len(paired):
            offsets = _write_partners(folder, split, paired, preprocess, raw, workers)
            index.loc[paired.index, "offset"] = paired["pair"].map(offsets)
    index = index.rename(columns={"height": "source_height", "width": "source_width"})
    index[COLUMNS].to_parquet(folder / paths.INDEX.name, index=False)
    return index, prepared[STORED]


COLUMNS = [
    "slice_id", "modality", "split", "row", "path", "frame", "group", "contrast", "contrast_confidence", "source_height", "source_width",
    "crop_top", "crop_left", "crop_side", "rotation", "intensity_low", "intensity_high", "pair", "offset",
]  # fmt: skip


def _number_pairs(index: pd.DataFrame, pairs_in: Sequence[str]) -> pd.Series:
    """Pairs of which both slices are in one of the splits `pairs_in`, numbered from 0 in each; -1 for the others."""
    numbers = pd.Series(-1, index.index, "int64")
    for split in pairs_in:
        mine = index[(index["split"] == split) & (index["pair"] >= 0)]
        counts = mine.groupby("pair")["modality"].nunique()
        whole = {pair: number for number, pair in enumerate(sorted(counts.index[counts == 2]))}
        numbers[mine.index] = mine["pair"].map(whole).fillna(-1).astype("int64")
    return numbers


def _write_partners(
    folder: Path, split: str, paired: pd.DataFrame, preprocess: params.Preprocess, raw: Path, workers: int | None
) -> dict[int, float]:
    """The other modality of each paired slice of `split`, on the pixels and cut by the box of the slice that gets translated: the truth.

    Where training learns from it, also which of its pixels are known. Gives how far apart the heads of each pair lie, as a share of the
    head's side, the larger of both ways.
    """
    offsets: dict[int, float] = {}
    sides = {modality: paired[paired["modality"] == modality].to_dict("records") for modality in paths.MODALITIES}
    shape, dtype = (len(sides["ct"]), preprocess.pixels, preprocess.pixels), slice_arrays.STORED
    for modality, given in (("ct", "mr"), ("mr", "ct")):
        names = [paths.slices(kind, modality).name for kind in paths.partner_kinds(split)]
        file, *known = (slice_arrays.create(folder, name, shape, dtype) for name in names)
        jobs = [
            Job(
                raw / truth["path"], truth["frame"], modality, file, row, truth["outline"], box_of(source),
                Partner(raw / source["path"], source["frame"], given, source["outline"]), *known,
            )
            for row, (truth, source) in enumerate(zip(sides[modality], sides[given], strict=True))
        ]  # fmt: skip
        for row, line in enumerate(_run(jobs, preprocess, workers)):
            offsets[row] = max(line["offset"], offsets.get(row, 0.0))
    return offsets


def box_of(line: dict[Hashable, Any]) -> Box:
    """The crop box of a line of index.parquet."""
    return Box(line["crop_top"], line["crop_left"], line["crop_side"], line["rotation"])


def _run(
    jobs: list[Job], preprocess: params.Preprocess, workers: int | None, meanwhile: Callable[[], object] | None = None
) -> list[dict[str, Any]]:
    """Do the jobs and store their pictures; one line of index columns each, in the order of `jobs`. Frames of a file are read together."""
    order = sorted(range(len(jobs)), key=lambda number: (jobs[number].path, jobs[number].frame))
    tasks = list(_tasks(jobs, order))
    work = [([jobs[number] for number in task], preprocess) for task in tasks]
    lines: list[dict[str, Any]] = [{}] * len(jobs)
    for task, results in zip(tasks, in_parallel(_prepare_jobs, work, workers, meanwhile, name=_files), strict=True):
        for number, (pictures, line) in zip(task, results, strict=True):
            for file, picture in zip((jobs[number].file, jobs[number].known), pictures, strict=False):
                if file:
                    slice_arrays.write_rows(file, [jobs[number].row], [picture])
            lines[number] = line
    return lines


def _files(task: tuple[list[Job], params.Preprocess]) -> str:
    return ", ".join(sorted({str(job.path) for job in task[0]}))


def _tasks(jobs: list[Job], order: list[int]) -> Iterator[list[int]]:
    """`order` in pieces of about SLICES_PER_TASK, never cutting a file in two: a volume is read once, not once per slice."""
    task: list[int] = []
    for number in order:
        if len(task) >= SLICES_PER_TASK and jobs[number].path != jobs[task[-1]].path:
            yield task
            task = []
        task.append(number)
    if task:
        yield task


def _prepare_jobs(task: tuple[list[Job], params.Preprocess]) -> list[tuple[list[NDArray[np.unsignedinteger]], dict[str, Any]]]:
    """Each job's picture and, where it is asked for, where it is known, as they are stored; and its columns of the index."""
    jobs, preprocess = task
    results, path, slices = [], None, []
    for job in jobs:
        if job.path != path:
            path, slices = job.path, read_slices(job.path, job.modality)
        slice_, outline = slices[job.frame], Outline(np.reshape(job.outline, (-1, 2)))
        if job.partner:
            slice_, outline, inside = move_onto(job.partner, job.path, job.modality, slice_, outline)
        prepared = prepare(slice_, job.modality, preprocess, job.box, outline)
        picture = intensity.display(prepared.array, job.modality, preprocess.ct_window)
        line = {
            "crop_top": prepared.box.top,
            "crop_left": prepared.box.left,
            "crop_side": prepared.box.side,
            "rotation": prepared.box.rotation,
            "intensity_low": prepared.low,
            "intensity_high": prepared.high,
            "stored_mean": float(picture[prepared.mask].mean()) if prepared.mask.any() else 0.0,
            "stored_largest": float(picture.max()),
            "stored_head": float(prepared.mask.mean()),
        }
        pictures = [slice_arrays.quantise(prepared.array)]
        if job.partner:
            line["offset"] = measure_offset(job.partner, slice_, outline)
        if job.partner and job.known:
            known = find_known(job.partner, inside, prepared.box, preprocess.pixels, slice_.scale)
            pictures.append(slice_arrays.quantise(known.astype(np.float32)))
        results.append((pictures, line))
    return results
