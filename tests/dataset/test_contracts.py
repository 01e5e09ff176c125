"""Each expectation fails on data that breaks it, and on nothing else: what is broken is what is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.dataset import drift, manifest_contract, slices_contract
from pipeline.errors import UserError
from pipeline.params import load
from pipeline.sources.provenance import Provenance

PARAMS = load(Path(__file__).parents[2] / "params.yaml")
PIXELS = PARAMS.preprocess.pixels


def manifest() -> pd.DataFrame:
    """40 sound slices of 10 patients, half CT, half MR; the first of each modality are pairs."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"modality": ["ct"] * 20 + ["mr"] * 20})
    table["path"] = [f"{modality}/{number}.png" for number, modality in enumerate(table["modality"])]
    table["status"], table["file_modality"], table["sha256"], table["complaint"] = "ok", "", table["path"], ""
    table["phash"] = [f"{number:064x}" for number in range(40)]
    table["pair"] = [{0: 0, 20: 0, 1: 1, 21: 1, 2: 2, 22: 2}.get(number, -1) for number in range(40)]
    table["group_key"] = [f"patient {number % 10}" for number in range(40)]
    table["ct_likelihood"] = np.where(table["modality"] == "ct", 0.9, 0.1)
    table["saturated"], table["head_share"] = 0.05, random.uniform(0.4, 0.5, 40)
    table["reason"], table["files"] = "", 1
    table["height"], table["width"] = 256, random.integers(240, 270, 40)
    for name in ("brightness", "spread", "sharpness"):
        table[name] = random.uniform(0.2, 0.3, 40)
    return table


REFERENCE = drift.statistics(manifest())
PAIRS = [{"ct": f"ct/{n}.png", "mr": f"mr/{20 + n}.png", "place": "any" if n == 2 else "test"} for n in range(3)]
SOURCE = Provenance("folder", "Slices of a folder", "1", "0", {"ct": 20, "mr": 20})
CT, MR = slice(0, 19), slice(20, 39)


def change(rows: slice, **columns: Any) -> Callable[[pd.DataFrame], None]:
    def break_it(table: pd.DataFrame) -> None:
        for name, value in columns.items():
            table.loc[rows, name] = value

    return break_it


DATA_BREAKS = {
    "few slices are quarantined": change(slice(5, 12), status="quarantined"),
    "no file that was downloaded is missing": change(slice(10, 11), path="ct/9.png"),
    "heads fill the CT pictures, and have air around them": change(CT, head_share=0.05),
    "heads fill the MR pictures, and have air around them": change(MR, head_share=0.99),
    "few MR pixels at white": change(slice(20, 32), saturated=0.45),
    "most pictures in ct/ look like CT (are the folders exchanged?)": change(CT, ct_likelihood=0.2),
    "most pictures in mr/ look like MR (are the folders exchanged?)": change(MR, ct_likelihood=0.8),
    "no patient has most slices of a modality": change(slice(20, 33), group_key="patient 3"),
    "pairs.csv names files that are there": change(slice(1, 1), path="ct/elsewhere.png"),
    "the volumes of a pair share places in the patient": change(slice(1, 1), pair=-1),
    "the volumes of a pair share places in the patient, those found by the layout": change(slice(2, 2), pair=-1),
    "both pictures of a pair are fit for use": change(slice(20, 20), status="quarantined"),
    **{
        f"{modality.upper()} lies in the bulk of the reference: {meaning}": change(rows, **values)
        for modality, rows in (("ct", CT), ("mr", MR))
        for (name, meaning), values in zip(
            drift.MEASURES.items(),
            [{"height": 512}, {"brightness": 0.4}, {"spread": 0.1}, {"sharpness": 0.5}, {"head_share": 0.7}],
            strict=True,
        )
    },
}
CRITICAL_DATA = {meaning for meaning in DATA_BREAKS if "folders exchanged" in meaning} | {
    "few slices are quarantined",
    "no file that was downloaded is missing",
    "pairs.csv names files that are there",
    "the volumes of a pair share places in the patient",
}


def data_results(table: pd.DataFrame, reference: dict[str, Any] | None = REFERENCE) -> list[dict[str, Any]]:
    return manifest_contract.check(table, PAIRS, SOURCE, PARAMS.quality, reference)


def test_sound_data_meets_every_expectation_and_each_has_a_test_that_breaks_it() -> None:
    results = data_results(manifest())
    assert [result["meaning"] for result in results if not result["success"]] == []
    assert {result["meaning"] for result in results} == set(DATA_BREAKS)
    assert {result["meaning"] for result in results if result["severity"] == "critical"} == CRITICAL_DATA


@pytest.mark.parametrize("meaning", DATA_BREAKS)
def test_broken_data_breaks_its_expectation(meaning: str) -> None:
    table = manifest()
    DATA_BREAKS[meaning](table)
    results = data_results(table, REFERENCE if "reference" in meaning else None)
    failed = {result["meaning"] for result in results if not result["success"]}
    # A picture that is away from its place in pairs.csv is not fit for use there either.
    assert failed - {meaning} <= {"both pictures of a pair are fit for use"}
    assert meaning in failed


def test_what_files_say_of_themselves_counts_more_than_looks() -> None:
    table = manifest().assign(file_modality=lambda rows: rows["modality"], ct_likelihood=0.5)
    table["ct_likelihood"] = np.where(table["modality"] == "ct", 0.1, 0.9)
    assert all(result["success"] for result in data_results(table))


def index() -> pd.DataFrame:
    """Four slices of each split and modality, those for testing being pairs."""
    lines = [
        {"split": split, "modality": modality, "group": f"{split} {number}", "sha256": f"{split} {modality} {number}", "number": number}
        for split in ("train", "val", "test")
        for modality in ("ct", "mr")
        for number in range(4)
    ]
    table = pd.DataFrame(lines)
    table["pair"] = np.where(table["split"] == "test", table["number"], -1)
    return table.assign(offset=np.where(table["pair"] >= 0, 0.02, np.nan), crop_side=100.0, intensity_low=0.0, intensity_high=1.0)


def stored() -> pd.DataFrame:
    return pd.DataFrame({"stored_mean": np.tile([0.30, 0.32, 0.34, 0.36], 6), "stored_largest": 1.0, "stored_head": 0.6})


def write_arrays(folder: Path, rows: int = 4, pixels: int = PIXELS, dtype: type = np.uint16) -> None:
    for kind in ("train", "val", "test", "truth"):
        for modality in ("ct", "mr"):
            odd = (kind, modality) == ("train", "mr")
            shape = (rows, pixels, pixels) if odd else (4, PIXELS, PIXELS)
            np.save(folder / f"{kind}_{modality}.npy", np.zeros(shape, dtype if odd else np.uint16))


SLICES_BREAKS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, Path], object]] = {
    "no group crosses splits": lambda index, stored, folder: change(slice(0, 0), group="test 1")(index),
    "no picture is in two splits": lambda index, stored, folder: change(slice(0, 0), sha256="test ct 1")(index),
    "pairs are for testing only": lambda index, stored, folder: change(slice(0, 0), pair=0)(index),
    "the heads of a pair lie in one place": lambda index, stored, folder: change(slice(16, 16), offset=0.2)(index),
    "no split is empty": lambda index, stored, folder: change(slice(8, 11), split="test", group="later")(index),
    "an array has a row for each line of the index": lambda index, stored, folder: write_arrays(folder, rows=3),
    "pictures have preprocess.pixels": lambda index, stored, folder: write_arrays(folder, pixels=PIXELS * 2),
    "pixels have 16 bits": lambda index, stored, folder: write_arrays(folder, dtype=np.uint8),
    "intensities have a range": lambda index, stored, folder: change(slice(3, 3), intensity_high=0.0)(index),
    "no stored slice is black": lambda index, stored, folder: change(slice(3, 3), stored_largest=0.1)(stored),
    "heads are neither black nor white": lambda index, stored, folder: change(slice(3, 3), stored_mean=0.95)(stored),
    "heads fill their crop as the margin says": lambda index, stored, folder: change(slice(0, 9), stored_head=0.1)(stored),
    "CT test slices are as bright as training slices": lambda index, stored, folder: change(slice(16, 19), stored_mean=0.6)(stored),
    "MR test slices are as bright as training slices": lambda index, stored, folder: change(slice(20, 23), stored_mean=0.1)(stored),
}
WARNINGS = {meaning for meaning in SLICES_BREAKS if meaning.startswith(("heads", "the heads", "CT test", "MR test"))}


def test_sound_slices_meet_every_expectation_and_each_has_a_test_that_breaks_it(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    results = slices_contract.check(tmp_path, index(), stored(), PARAMS.preprocess)["expectations"]
    assert all(result["success"] for result in results)
    assert {result["meaning"] for result in results} == set(SLICES_BREAKS)
    assert {result["meaning"] for result in results if result["severity"] == "warning"} == WARNINGS


def test_pairs_to_train_on_have_their_other_side_and_where_it_is_known(tmp_path: Path) -> None:
    lines, places = index(), ("train", "val", "test")
    lines["pair"] = np.where(lines["split"] == "val", -1, lines["number"])
    write_arrays(tmp_path)
    for kind in paths.partner_kinds("train"):
        for modality in ("ct", "mr"):
            np.save(tmp_path / f"{kind}_{modality}.npy", np.zeros((4, PIXELS, PIXELS), np.uint16))
    results = slices_contract.check(tmp_path, lines, stored(), PARAMS.preprocess, places)["expectations"]
    assert all(result["success"] for result in results)
    with pytest.raises(UserError, match="pairs are for testing only"):
        slices_contract.check(tmp_path, lines, stored(), PARAMS.preprocess)
    np.save(tmp_path / "train_known_mr.npy", np.zeros((3, PIXELS, PIXELS), np.uint16))
    with pytest.raises(UserError, match="an array has a row for each line of the index"):
        slices_contract.check(tmp_path, lines, stored(), PARAMS.preprocess, places)


@pytest.mark.parametrize("meaning", SLICES_BREAKS)
def test_broken_slices_break_their_expectation(meaning: str, tmp_path: Path) -> None:
    lines, values = index(), stored()
    write_arrays(tmp_path)
    SLICES_BREAKS[meaning](lines, values, tmp_path)
    if meaning in WARNINGS:
        results = slices_contract.check(tmp_path, lines, values, PARAMS.preprocess)["expectations"]
        assert meaning in {result["meaning"] for result in results if not result["success"]}
    else:
        with pytest.raises(UserError, match=f"preprocess: expectation not met: {meaning}"):
            slices_contract.check(tmp_path, lines, values, PARAMS.preprocess)
