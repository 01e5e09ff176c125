"""The test slices of a direction with what is known of them, read batch by batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CONTRASTS = ("t1", "t2", "flair", "pd")


@dataclass(frozen=True)
class Part:
    """images (N, size, size) in 0..1; truth where `known`, elsewhere zero; MR contrast of each ("" unknown).

    `hounsfield`: HU from black to white where the truth is a CT whose file knew them, else NaN.
    """

    rows: "pd.DataFrame"
    images: NDArray[np.float32]
    truth: NDArray[np.float32]
    known: NDArray[np.bool_]
    contrast: list[str]
    hounsfield: NDArray[np.float64]


def slices_of_test(direction: str, folder: Path = paths.SLICES) -> "pd.DataFrame":
    """Test slices of the source modality, with the contrast of the MR involved: the slice's own, or of its registered partner.

    Raises UserError when there are none.
    """
    source, target = direction.split("_to_")
    index = slice_arrays.load_index(folder)
    test = index[index["split"] == "test"]
    found = test[test["modality"] == source].sort_values("row").reset_index(drop=True)
    if found.empty:
        raise UserError(f"{folder}: no test slices of {source.upper()}; raise split.test, or bring more data")
    if target == "mr":
        partners = test[(test["modality"] == "mr") & (test["pair"] >= 0)].set_index("pair")["contrast"].to_dict()
        found["contrast"] = [partners.get(pair, "") for pair in found["pair"]]
    found["contrast"] = found["contrast"].where(found["contrast"].isin(CONTRASTS), "")
    found["hounsfield"] = np.nan
    if target == "ct":
        ct = test[(test["modality"] == "ct") & (test["pair"] >= 0)].set_index("pair")
        width = (ct["intensity_high"] - ct["intensity_low"]).to_dict()
        # Grey pictures span 0..1: which window made them is not known.
        found["hounsfield"] = [width[pair] if width.get(pair, 1.0) != 1.0 else np.nan for pair in found["pair"]]
    return found


def parts(direction: str, size: int, folder: Path = paths.SLICES) -> Iterator[Part]:
    """The test slices in batches of `size`; only these are in memory. Raises UserError when truth and slices do not fit together."""
    source, target = direction.split("_to_")
    index = slices_of_test(direction, folder)
    images = slice_arrays.load_array("test", source, folder)
    truth = slice_arrays.load_array("truth", target, folder) if (index["pair"] >= 0).any() else None
    if truth is not None and (truth.shape[1:] != images.shape[1:] or len(truth) <= index["pair"].max()):
        found = f"{len(truth)} of {truth.shape[2]}×{truth.shape[1]} for slices of {images.shape[2]}×{images.shape[1]}"
        raise UserError(f"{folder}: truth_{target}.npy does not fit test_{source}.npy: {found}; run dvc repro --force preprocess")
    for first in range(0, len(index), size):
        rows = index.iloc[first : first + size]
        seen = slice_arrays.to_float(images[rows["row"].to_numpy()])
        known = (rows["pair"] >= 0).to_numpy()
        wanted = np.zeros_like(seen)
        if truth is not None and known.any():
            wanted[known] = slice_arrays.to_float(truth[rows["pair"].to_numpy()[known]])
        yield Part(rows, seen, wanted, known, rows["contrast"].tolist(), rows["hounsfield"].to_numpy(np.float64))
