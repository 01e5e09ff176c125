"""Slices as memory-mapped arrays with an index.

Row i of `{kind}_{modality}.npy`, for the kinds train, val and test, is the line of index.parquet with that split and modality and
with `row` i.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import atomic, paths
from pipeline.dataset.parquet_files import read_table
from pipeline.errors import UserError
from pipeline.params import Preprocess, flatten

STORED = np.dtype(np.uint16)  # CT on the scale of `intensity.ct_to_unit`, MR in 0..1


def load_array(kind: str, modality: str, folder: Path = paths.SLICES) -> np.memmap:
    """The array (N, pixels, pixels) of one `kind` (see paths.ARRAY_KINDS) and modality, memory-mapped read-only, uint16.

    Raises UserError when it is not there.
    """
    return _memory_map(folder / paths.slices(kind, modality).name)


def load_shares(kind: str = "teacher", folder: Path = paths.SLICES) -> np.memmap:
    """Tissue shares of simulated heads (N, channels, h, w) uint8, memory-mapped read-only; see `phantom.shares` and `teacher.build`.

    Raises UserError when they are not there.
    """
    return _memory_map(folder / f"{kind}_shares.npy")


def load_index(folder: Path = paths.SLICES) -> pd.DataFrame:
    """index.parquet: one line per stored slice, with all that it takes to undo its preparation."""
    return read_table(folder / paths.INDEX.name, "preprocess")


def load_teacher_index(folder: Path = paths.SLICES, kind: str = "teacher") -> pd.DataFrame:
    """teacher_index.parquet: row, seed and place of each simulated head; teacher_val_index.parquet for the kind paths.HELD_OUT."""
    return read_table(folder / f"{kind}_index.parquet", "preprocess")


def write_preprocessing(folder: Path, preprocess: Preprocess) -> None:
    """Write beside the arrays in `folder` how they are made: pixels, frame, window. Models keep it, and translation does the same."""
    atomic.write_json(folder / paths.PREPROCESSING.name, preprocess.model_dump(mode="json"))


def load_preprocessing(folder: Path = paths.SLICES) -> Preprocess:
    """How the arrays in `folder` were made. Raises UserError when they do not say it."""
    file = folder / paths.PREPROCESSING.name
    try:
        return Preprocess.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro preprocess first") from None
    except ValueError:
        raise UserError(f"{file}: damaged, or of another version; run dvc repro --force preprocess") from None


def verify(expected: Preprocess, says: Path = paths.PARAMS, folder: Path = paths.SLICES) -> None:
    """Check that the arrays in `folder` are made as the file `says` wants them, by what they say and by their shape and depth.

    Raises UserError naming the first difference.
    """
    made = load_preprocessing(folder)
    wanted = flatten(expected.model_dump(mode="json"))
    for knob, value in flatten(made.model_dump(mode="json")).items():
        if value != wanted[knob]:
            raise UserError(f"{folder}: made with preprocess.{knob} = {value}, but {says} says {wanted[knob]}; run dvc repro")
    shape, dtype = (made.pixels, made.pixels), STORED
    for file in sorted(set(folder.glob("*.npy")) - set(folder.glob("*_shares.npy"))):
        array = _memory_map(file)
        if array.shape[1:] != shape or array.dtype != dtype:
            found = f"{'×'.join(map(str, array.shape[1:]))} pixels of {array.dtype}"
            raise UserError(f"{file}: {found}, expected {shape[0]}×{shape[1]} of {dtype}; run dvc repro --force preprocess")


def create(folder: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Path:
    """An array file `name` in `folder`, zero, ready for `write_rows`; gives its path.

    Its place on the disk is taken now: a mapped file that finds the disk full when it is written to kills its process.
    """
    file = folder / name
    np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape).flush()
    with file.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return file


def write_rows(file: Path, rows: Sequence[int], images: Sequence[NDArray[np.unsignedinteger]]) -> None:
    """Store `images` (size, size), as `quantise` gives them, as these rows. One process alone may write to a file."""
    array = np.lib.format.open_memmap(file, mode="r+")
    for row, image in zip(rows, images, strict=True):
        array[row] = image


def quantise(image01: NDArray[np.float32]) -> NDArray[np.unsignedinteger]:
    """0..1 as stored integers, rounded to nearest."""
    return np.rint(np.clip(image01, 0, 1) * np.float64(np.iinfo(STORED).max)).astype(STORED)


def to_float(stored: NDArray[np.unsignedinteger]) -> NDArray[np.float32]:
    """Stored integers back to float32 in 0..1."""
    return np.asarray(stored, np.float32) / np.float32(np.iinfo(stored.dtype).max)


def _memory_map(file: Path) -> np.memmap:
    try:
        array = np.load(file, mmap_mode="r")
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro preprocess first") from None
    except (ValueError, EOFError):
        raise UserError(f"{file}: cut off or damaged; bring it back with dvc checkout --force {paths.SLICES}, or run dvc repro") from None
    assert isinstance(array, np.memmap)
    return array
