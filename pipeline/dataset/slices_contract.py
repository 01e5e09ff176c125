"""What must hold of the split and of the stored arrays before anything is trained on them, decided by Great Expectations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.dataset import expectations, slice_arrays
from pipeline.dataset.expectations import WARNING, Expectation, among, between
from pipeline.domain import MODALITIES, SPLITS
from pipeline.errors import UserError
from pipeline.params import Preprocess

SMALLEST_HEAD = 0.36  # share of a tight square that a narrow head covers
REGISTERED = 0.08  # of a head's side, between the middles of its outlines in CT and MR; 19 of 20 registered pairs have less than half of it
BULK = (0.01, 0.99)  # quantiles of the training slices between which the median of test slices lies


def check(
    folder: Path, index: pd.DataFrame, stored: pd.DataFrame, preprocess: Preprocess, pairs_in: Sequence[str] = ("test",)
) -> dict[str, Any]:
    """Results for the arrays in `folder`, the lines of index.parquet with `sha256` of each picture, and what was `stored` of each.

    `stored`: mean and largest value, 0..1, and the head's share. `pairs_in`: the splits that may have pairs.
    Raises UserError naming the first critical expectation that fails.
    """
    results = [*_split(index, pairs_in), *_arrays(folder, index, preprocess, pairs_in), *_slices(index, stored, preprocess)]
    if broken := expectations.failed(results):
        first = broken[0]
        examples = f", e.g. {', '.join(first['examples'])}" if first["examples"] else ""
        where = f"{first['unexpected']} exceptions in {first['table']}.{first['column']}"
        raise UserError(
            f"preprocess: expectation not met: {first['meaning']} ({where}{examples});"
            " look at these slices and run dvc repro validate again"
        )
    return {"success": True, "expectations": results}


def _split(index: pd.DataFrame, pairs_in: Sequence[str]) -> list[dict[str, Any]]:
    """data/split.parquet outlives the run that wrote it, so that it may not fit the manifest any more."""
    groups = index.groupby("group").agg(splits=("split", "nunique")).reset_index()
    pictures = index.groupby("sha256").agg(splits=("split", "nunique")).reset_index()
    parts = pd.DataFrame({"part": (index["split"] + " " + index["modality"]).unique()})
    every = [f"{split} {modality}" for split in SPLITS for modality in MODALITIES]
    where = "pairs are for testing only" if tuple(pairs_in) == ("test",) else f"pairs are in {', '.join(pairs_in)} only"
    aligned = between("offset", "the heads of a pair lie in one place", high=REGISTERED, severity=WARNING)
    full = Expectation("ColumnDistinctValuesToContainSet", "no split is empty", {"column": "part", "value_set": every})
    return [
        *expectations.check("groups", groups, [between("splits", "no group crosses splits", high=1)]),
        *expectations.check("pictures", pictures, [between("splits", "no picture is in two splits", high=1)]),
        *expectations.check("pairs", index[index["pair"] >= 0], [among("split", where, pairs_in), aligned]),
        *expectations.check("parts", parts, [full]),
    ]


def _arrays(folder: Path, index: pd.DataFrame, preprocess: Preprocess, pairs_in: Sequence[str]) -> list[dict[str, Any]]:
    """The files as they lie there, against params and index."""
    slices = index.groupby(["split", "modality"]).size()
    rows = {(split, modality): int(slices.get((split, modality), 0)) for split in SPLITS for modality in MODALITIES}
    for split in pairs_in:
        if pairs := int(index.loc[(index["split"] == split) & (index["pair"] >= 0), "pair"].nunique()):
            rows |= {(kind, modality): pairs for kind in paths.partner_kinds(split) for modality in MODALITIES}
    lines = []
    for (kind, modality), wanted in rows.items():
        file = paths.slices(kind, modality).name
        array = slice_arrays.load_array(kind, modality, folder)
        lines.append({"file": file, "rows": len(array), "wanted_rows": wanted, "shape": str(array.shape[1:]), "type": str(array.dtype)})
    same_rows = {"column_A": "rows", "column_B": "wanted_rows"}
    held = [
        Expectation("ColumnPairValuesToBeEqual", "an array has a row for each line of the index", same_rows),
        among("shape", "pictures have preprocess.pixels", [str((preprocess.pixels, preprocess.pixels))]),
        among("type", "pixels have 16 bits", [str(slice_arrays.STORED)]),
    ]
    return expectations.check("files", pd.DataFrame(lines), held)


def _slices(index: pd.DataFrame, stored: pd.DataFrame, preprocess: Preprocess) -> list[dict[str, Any]]:
    lines = index.assign(**{str(name): stored[name].to_numpy() for name in stored}, range=index["intensity_high"] - index["intensity_low"])
    framed = SMALLEST_HEAD * (1 - 2 * preprocess.margin) ** 2
    held = [
        between("range", "intensities have a range", low=0, strict_min=True),
        between("stored_largest", "no stored slice is black", low=0.2),
        between("stored_mean", "heads are neither black nor white", 0.02, 0.9, WARNING),
        between("stored_head", "heads fill their crop as the margin says", framed, 1, WARNING, mostly=0.9),
    ]
    results = expectations.check("arrays", lines, held)
    for modality in MODALITIES:
        mine = lines[lines["modality"] == modality]
        train, test = (mine.loc[mine["split"] == split] for split in ("train", "test"))
        if train.empty or test.empty:
            continue
        low, high = (float(bound) for bound in np.quantile(train["stored_mean"], BULK))
        alike = between("stored_mean", f"{modality.upper()} test slices are as bright as training slices", low, high, WARNING, of="Median")
        results += expectations.check(f"{modality.upper()} test", test, [alike])
    return results
