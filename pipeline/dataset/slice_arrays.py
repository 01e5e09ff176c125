"""Slices as memory-mapped arrays with an index.

Row i of `{kind}_{modality}.npy`, for the kinds train, val and test, is the line of index.parquet with that split and modality and
with `row` i.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def load_array(kind: str, modality: str, folder: Path = paths.SLICES) -> np.memmap:
    """The array (N, pixels, pixels) of one `kind` (see paths.ARRAY_KINDS) and modality, memory-mapped read-only, uint8 or uint16.

    Raises UserError when it is not there.
    """
    file = folder / paths.slices(kind, modality).name
    try:
        array = np.load(file, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro preprocess first") from None
    assert isinstance(array, np.memmap)
    return array


def load_index(folder: Path = paths.SLICES) -> "pd.DataFrame":
    """index.parquet: one line per stored slice, with all that it takes to undo its preparation."""
    return _table(folder / paths.INDEX.name)


def load_teacher_index(folder: Path = paths.SLICES, kind: str = "teacher") -> "pd.DataFrame":
    """teacher_index.parquet: row, contrast and seed of each simulated pair; teacher_val_index.parquet for the kind paths.HELD_OUT."""
    return _table(folder / f"{kind}_index.parquet")


def create(folder: Path, name: str, count: int, size: int, bits: int) -> Path:
    """An array file `name` in `folder`, shape (count, size, size), zero, ready for `write_rows`; gives its path.

    Its place on the disk is taken now: a mapped file that finds the disk full when it is written to kills its process.
    """
    file = folder / name
    np.lib.format.open_memmap(file, mode="w+", dtype=stored_type(bits), shape=(count, size, size)).flush()
    with file.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return file


def write_rows(file: Path, rows: Sequence[int], images: Sequence[NDArray[np.unsignedinteger]]) -> None:
    """Store `images` (size, size), as `quantise` gives them, as these rows. One process alone may write to a file."""
    array = np.lib.format.open_memmap(file, mode="r+")
    for row, image in zip(rows, images, strict=True):
        array[row] = image


def stored_type(bits: int) -> np.dtype:
    """The type of stored pixels for `preprocess.bits`."""
    return np.dtype(np.uint8 if bits == 8 else np.uint16)


def quantise(image01: NDArray[np.float32], dtype: np.dtype) -> NDArray[np.unsignedinteger]:
    """0..1 to 0..max of an unsigned integer type, rounded to nearest."""
    return np.rint(np.clip(image01, 0, 1) * np.float64(np.iinfo(dtype).max)).astype(dtype)


def to_float(stored: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
    """Stored integers back to float32 in 0..1."""
    return np.asarray(stored, np.float32) / np.float32(np.iinfo(stored.dtype).max)


def _table(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro preprocess first") from None
