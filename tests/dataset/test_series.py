"""A sagittal MPRAGE as DICOM in a data folder: one volume whose axial slices are used, not a file after the other that is refused."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.dataset import manifest, prepare_slices, quality, slice_arrays
from pipeline.dataset.manifest_contract import check
from pipeline.params import Preprocess, Quality, load
from pipeline.sources import pairs, provenance
from pipeline.sources.table import download
from tests.formats import dicom_files
from tests.imaging.formula import affine_of, depth, sample
from tests.serving import examinations

PARAMS = load(Path(__file__).parents[2] / paths.PARAMS)
SPACING = (2.5, 2.5, 2.5)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/raw of a folder with a sagittal MR series of one patient and a CT volume of another, with its own extra files."""
    folder = tmp_path_factory.mktemp("series")
    affine, shape = affine_of((1, 2, 0), (-1, -1, 1), SPACING)
    examinations.dicom_planes(folder / "mine/mr/patient_01", sample(affine, shape), affine)
    affine, shape = affine_of((0, 1, 2), (-1, -1, 1), (2.5, 2.5, 5.0))
    where = (affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]).reshape(3, *shape)
    ct = np.select([depth(*where) < 0.8, depth(*where) < 0.92, depth(*where) < 1], [35, 1200, -60], -1000)
    ct = ct + np.random.default_rng(0).normal(0, 4, shape)
    (folder / "mine/ct/patient_02").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(ct.astype(np.int16), affine), folder / "mine/ct/patient_02/ct.nii.gz")
    download(PARAMS.data.model_copy(update={"source": "folder", "folder": str(folder / "mine")}), folder / "raw")
    return folder / "raw"


@pytest.fixture(scope="module")
def judged(raw: Path) -> pd.DataFrame:
    return quality.judge(manifest.build(raw, workers=1), Quality(min_side=32))


def test_its_axial_slices_are_used(judged: pd.DataFrame) -> None:
    mr = judged[judged["modality"] == "mr"]
    assert mr["path"].nunique() == 1
    assert len(mr) == 40  # planes from foot to head, not the 48 sagittal ones
    assert set(mr.loc[mr["status"] == "quarantined", "reason"]) <= {"no head", "blank", "exact duplicate", "saturated"}  # at both ends
    assert (mr["status"] == "ok").sum() >= 24
    assert mr["group_key"].nunique() == 1
    assert mr["position"].is_monotonic_increasing


def test_no_file_counts_as_lost(raw: Path, judged: pd.DataFrame) -> None:
    source = provenance.read(raw / paths.SOURCE_JSON.name)
    results = {result["meaning"]: result for result in check(judged, [], source, Quality(min_side=32, max_quarantined=1))}
    assert results["no file that was downloaded is missing"]["success"]
    assert judged.loc[judged["modality"] == "mr", "files"].unique().tolist() == [48]


def test_they_are_prepared_as_slices_of_one_volume(raw: Path, judged: pd.DataFrame, tmp_path: Path) -> None:
    sound = judged[(judged["status"] == "ok") & (judged["modality"] == "mr")].assign(split="train", group="1")
    index, _ = prepare_slices.fill(tmp_path, sound, Preprocess(pixels=32, field_of_view=150), raw, workers=1)
    stored = slice_arrays.load_array("train", "mr", tmp_path)
    assert len(stored) == len(index) == len(sound)
    middle = slice_arrays.to_float(stored)[len(stored) // 2]
    assert middle[16, 16] > 0.3  # brain in the middle
    assert middle[0].max() == 0


def test_a_pair_may_be_named_by_any_file_of_its_series(tmp_path: Path) -> None:
    for modality in ("CT", "MR"):
        for number in range(4):
            stored = np.full((3, 4), 1024 + number, np.int16)
            dicom_files.write(tmp_path / f"mine/{modality.lower()}/{number}.dcm", stored, 5.0 * number, Modality=modality)
    (tmp_path / "mine/pairs.csv").write_text("ct,mr\nct/2.dcm,mr/1.dcm\n")
    download(PARAMS.data.model_copy(update={"source": "folder", "folder": str(tmp_path / "mine")}), tmp_path / "raw")
    (pair,) = pairs.read(tmp_path / "raw")
    assert (pair["ct"], pair["mr"]) == ("ct/0.dcm", "mr/0.dcm")
