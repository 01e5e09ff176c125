"""The test slices of a direction with what is known of them, read batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS, Direction, Modality
from pipeline.errors import UserError
from pipeline.imaging.intensity import CT_LOWEST, display
from pipeline.params import Window


@dataclass(frozen=True)
class Batch:
    """N test slices: their lines of the index, `images` (N, size, size) in 0..1, and `truth` alike where `has_truth`, elsewhere zero.

    As the networks see them, or as a person does (`as_displayed`). `contrast`: that of the MR of each, "" where unknown. `window_width`:
    HU from black to white of the display window where the truth is a CT whose file knows Hounsfield units, else NaN.
    """

    rows: pd.DataFrame
    images: NDArray[np.float32]
    truth: NDArray[np.float32]
    has_truth: NDArray[np.bool_]
    contrast: list[str]
    window_width: NDArray[np.float64]

    def as_displayed(self, direction: Direction, window: Window) -> "Batch":
        """The same slices as pictures in 0..1, CT in `window`: what scores in 0..1 are of, and all that a windowed file knows."""
        images, truth = display(self.images, direction.source, window), display(self.truth, direction.target, window)
        return replace(self, images=images, truth=truth)


def index_of_test_slices(direction: Direction, folder: Path = paths.SLICES) -> pd.DataFrame:
    """Test slices of the source modality, with the contrast of the MR involved: the slice's own, or of its registered partner.

    Raises UserError when there are none.
    """
    index = slice_arrays.load_index(folder)
    test = index[index["split"] == "test"]
    slices = test[test["modality"] == direction.source].sort_values("row").reset_index(drop=True)
    if slices.empty:
        raise UserError(f"{folder}: no test slices of {direction.source.upper()}; raise split.test, or bring more data")
    partners = test[(test["modality"] == direction.target) & (test["pair"] >= 0)].set_index("pair")
    if direction.target is Modality.MR:
        slices["contrast"] = slices["pair"].map(lambda pair: partners["contrast"].get(pair, ""))
    slices["contrast"] = slices["contrast"].where(slices["contrast"].isin(CONTRASTS), "")
    slices["window_width"] = np.nan
    if direction.target is Modality.CT:
        width = slice_arrays.load_preprocessing(folder).ct_window.width
        knows_hounsfield = slices["pair"].map(partners["intensity_low"] <= CT_LOWEST).fillna(False).astype(bool)
        slices["window_width"] = np.where(knows_hounsfield, width, np.nan)
    return slices


def split_rows(direction: Direction, size: int, folder: Path = paths.SLICES) -> list[pd.DataFrame]:
    """Lines of the index of the test slices, `size` at a time. Raises UserError when truth and slices do not fit together."""
    index = index_of_test_slices(direction, folder)
    if (index["pair"] >= 0).any():
        images, truth = (slice_arrays.load_array(*place, folder) for place in (("test", direction.source), ("truth", direction.target)))
        if truth.shape[1:] != images.shape[1:] or len(truth) <= index["pair"].max():
            shapes = f"{len(truth)} of {truth.shape[2]}×{truth.shape[1]} for slices of {images.shape[2]}×{images.shape[1]}"
            files = f"truth_{direction.target}.npy does not fit test_{direction.source}.npy"
            raise UserError(f"{folder}: {files}: {shapes}; run dvc repro --force preprocess")
    return [index.iloc[first : first + size] for first in range(0, len(index), size)]


def read_batch(direction: Direction, rows: pd.DataFrame, folder: Path = paths.SLICES) -> Batch:
    """The slices of some lines of the index; only these are in memory."""
    source = slice_arrays.to_float(slice_arrays.load_array("test", direction.source, folder)[rows["row"].to_numpy()])
    has_truth = (rows["pair"] >= 0).to_numpy()
    target = np.zeros_like(source)
    if has_truth.any():
        truth = slice_arrays.load_array("truth", direction.target, folder)
        target[has_truth] = slice_arrays.to_float(truth[rows["pair"].to_numpy()[has_truth]])
    return Batch(rows, source, target, has_truth, rows["contrast"].tolist(), rows["window_width"].to_numpy(np.float64))


def read_batches(direction: Direction, size: int, folder: Path = paths.SLICES) -> Iterator[Batch]:
    """The test slices in batches of `size`. Raises UserError as `split_rows`."""
    for rows in split_rows(direction, size, folder):
        yield read_batch(direction, rows, folder)
