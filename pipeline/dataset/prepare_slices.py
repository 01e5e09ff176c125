"""data/slices: every slice of the split, prepared and stored, and the truth for registered pairs."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, params, paths
from pipeline.dataset import slice_arrays, slices_contract
from pipeline.errors import UserError
from pipeline.formats.slices import Slice
from pipeline.formats.table import read_slices, read_stack
from pipeline.imaging import intensity
from pipeline.imaging.head import Box
from pipeline.imaging.outline import Outline
from pipeline.imaging.prepare import NoHead, find_outline, prepare
from pipeline.imaging.regrid import onto_grid, same_grid
from pipeline.parallel import in_parallel

if TYPE_CHECKING:
    import pandas as pd

SLICES_PER_TASK = 8
VALIDATION = "validation.json"
STORED = ["stored_mean", "stored_largest", "stored_head"]  # what is checked of each stored slice, as displayed


@dataclass(frozen=True)
class Partner:
    """The slice that is to be translated, on whose pixels its truth is needed."""

    path: Path
    frame: int
    modality: str
    outline: list[float]


@dataclass(frozen=True)
class Job:
    """One slice to prepare: from `path`, frame `frame`, with the head's outline as the manifest has it, into row `row` of `file`."""

    path: Path
    frame: int
    modality: str
    file: Path
    row: int
    outline: list[float]
    box: Box | None = None
    partner: Partner | None = None


def build(
    folder: Path,
    slices: "pd.DataFrame",
    preprocess: params.Preprocess,
    raw: Path,
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> None:
    """Fill `folder` with what `fill` writes, index.parquet and validation.json, once what must hold of them holds; arguments as there."""
    index, stored = fill(folder, slices, preprocess, raw, workers, meanwhile)
    atomic.write_json(folder / VALIDATION, slices_contract.check(folder, index, stored, preprocess))
    write_index(folder, index)


def write_index(folder: Path, index: "pd.DataFrame") -> None:
    """index.parquet with its columns in their order."""
    index[COLUMNS].to_parquet(folder / paths.INDEX.name, index=False)


def fill(
    folder: Path,
    slices: "pd.DataFrame",
    preprocess: params.Preprocess,
    raw: Path,
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """Write {split}_{modality}.npy and, where there are pairs, truth_{ct,mr}.npy; gives the index and what was `stored` of each slice.

    `slices`: manifest joined with the split (slice_id, modality, split, path, frame, group, contrast, contrast_confidence, height, width,
    pair, outline). `meanwhile` as for `in_parallel`.
    """
    import pandas as pd

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
    index["pair"] = _number_pairs(index)
    index["offset"] = index["pair"].map(_write_truth(folder, index, preprocess, raw, workers))
    return index.rename(columns={"height": "source_height", "width": "source_width"}), prepared[STORED]


COLUMNS = [
    "slice_id", "modality", "split", "row", "path", "frame", "group", "contrast", "contrast_confidence", "source_height", "source_width",
    "crop_top", "crop_left", "crop_side", "rotation", "intensity_low", "intensity_high", "pair", "offset",
]  # fmt: skip


def _number_pairs(index: "pd.DataFrame") -> "pd.Series":
    """Pairs of which both slices are for testing, numbered from 0; -1 for the others: in training a patient's CT and MR are unpaired."""
    pairs = index["pair"].where(index["split"] == "test", -1)
    counts = index[pairs >= 0].groupby("pair")["modality"].nunique()
    whole = {pair: number for number, pair in enumerate(sorted(counts.index[counts == 2]))}
    return pairs.map(whole).fillna(-1).astype("int64")


def _write_truth(folder: Path, index: "pd.DataFrame", preprocess: params.Preprocess, raw: Path, workers: int | None) -> dict[int, float]:
    """The other modality of each paired slice, on the pixels and cut by the box of the slice that gets translated.

    Gives how far apart the heads of each pair lie, as a share of the head's side, the larger of both ways.
    """
    paired = index[index["pair"] >= 0].sort_values("pair")
    offsets: dict[int, float] = {}
    if paired.empty:
        return offsets
    sides = {modality: paired[paired["modality"] == modality].to_dict("records") for modality in paths.MODALITIES}
    shape, dtype = (len(sides["ct"]), preprocess.pixels, preprocess.pixels), slice_arrays.STORED
    for modality, given in (("ct", "mr"), ("mr", "ct")):
        file = slice_arrays.create(folder, paths.slices("truth", modality).name, shape, dtype)
        jobs = [
            Job(
                raw / truth["path"], truth["frame"], modality, file, row, truth["outline"], box_of(source),
                Partner(raw / source["path"], source["frame"], given, source["outline"]),
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
        for number, (picture, line) in zip(task, results, strict=True):
            slice_arrays.write_rows(jobs[number].file, [jobs[number].row], [picture])
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


def _prepare_jobs(task: tuple[list[Job], params.Preprocess]) -> list[tuple[NDArray[np.unsignedinteger], dict[str, Any]]]:
    """Each job's picture, as it is stored, and its columns of the index."""
    jobs, preprocess = task
    results, path, slices = [], None, []
    for job in jobs:
        if job.path != path:
            path, slices = job.path, read_slices(job.path, job.modality)
        slice_, outline = slices[job.frame], _outline(job.outline)
        if job.partner:
            slice_, outline = _onto_partner(job, slice_, outline)
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
        if job.partner:
            masks = [each.mask(slice_.pixels.shape, slice_.scale) for each in (outline, _outline(job.partner.outline))]
            line["offset"] = _offset(*masks)
        results.append((slice_arrays.quantise(prepared.array), line))
    return results


def _onto_partner(job: Job, slice_: Slice, outline: Outline) -> tuple[Slice, Outline]:
    """The truth on the pixels of its partner, with the head's outline there; as it is where both lie on one grid, or places are unknown."""
    assert job.partner is not None
    slices = _regridded(job.path, job.modality, job.partner.path, job.partner.modality)
    if slices is None:
        return slice_, outline
    moved = slices[job.partner.frame]
    try:
        return moved, find_outline(moved, job.modality)
    except NoHead:
        return moved, _outline(job.partner.outline)


@lru_cache(maxsize=1)
def _regridded(path: Path, modality: str, partner: Path, other: str) -> list[Slice] | None:
    """The slices of the volume `path` on the grid of the volume `partner`; None where that changes nothing or cannot be known.

    Raises UserError where the two share no place.
    """
    volume, target = read_stack(path, modality), read_stack(partner, other)
    if volume.affine is None or target.affine is None or min(len(volume.slices), len(target.slices)) < 2 or same_grid(volume, target):
        return None
    moved, inside = onto_grid(volume, target)
    if not inside.any():
        raise UserError(f"{path} and {partner}: a pair whose volumes lie in different places and do not overlap; register them first")
    return moved.slices


def _outline(points: list[float]) -> Outline:
    return Outline(np.reshape(points, (-1, 2)))


def _offset(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Distance between the middles of two masks of a head, as a share of its side (the root of its area)."""
    middles = [np.argwhere(mask).mean(axis=0) for mask in (one, other) if mask.any()]
    return float(np.linalg.norm(middles[0] - middles[1]) / np.sqrt(one.sum())) if len(middles) == 2 else 1.0
