"""A BIDS data set in, a BIDS derivative out: names, sidecars, description."""

import json
from pathlib import Path

import nibabel
import pytest

from pipeline.errors import UserError
from pipeline.serving.translate_files import translate_files
from tests.serving import examinations


def dataset(folder: Path, heads) -> Path:
    (folder / "sub-01/ses-1/anat").mkdir(parents=True)
    (folder / "sub-02/anat").mkdir(parents=True)
    (folder / "sub-02/func").mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "Heads", "BIDSVersion": "1.10.0"}')
    examinations.nifti(folder / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", heads[1])
    examinations.nifti(folder / "sub-02/anat/sub-02_acq-fast_T2w.nii.gz", heads[1])
    (folder / "sub-02/func/sub-02_task-rest_bold.nii.gz").write_bytes(b"no anatomy")
    return folder


def test_a_data_set_becomes_a_derivative(models: Path, heads, tmp_path: Path) -> None:
    source, target = dataset(tmp_path / "raw", heads), tmp_path / "derived"
    translate_files(source, target, "ct", str(models))
    made = {file.relative_to(target).as_posix() for file in target.rglob("*") if file.is_file()}
    first = "sub-01/ses-1/ct/sub-01_ses-1_desc-syntheticFromT1w_ct"
    second = "sub-02/ct/sub-02_acq-fast_desc-syntheticFromT2w_ct"
    assert made == {"dataset_description.json", *(f"{name}.{ending}" for name in (first, second) for ending in ("json", "nii.gz"))}
    description = json.loads((target / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "ctmr"
    sidecar = json.loads((target / f"{first}.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"]
    assert (sidecar["Units"], sidecar["Slices"], sidecar["EmptySlices"]) == ("HU", 3, 0)
    assert "NOT FOR DIAGNOSIS" in sidecar["Description"]
    assert nibabel.load(target / f"{first}.nii.gz").shape == nibabel.load(source / "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz").shape


def test_linked_subjects_are_translated_and_lost_files_named(
    models: Path, heads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(tmp_path / "raw", heads)
    (source / "sub-02/anat").rename(tmp_path / "annex")
    (source / "sub-02/anat").symlink_to(tmp_path / "annex")
    (source / "sub-02/anat/sub-02_T1w.nii.gz").symlink_to(tmp_path / "not-fetched")
    with pytest.raises(UserError, match="1 of 3 files were not translated"):
        translate_files(source, tmp_path / "derived", "ct", str(models))
    assert len(list((tmp_path / "derived").rglob("*.nii.gz"))) == 2
    assert "sub-02_T1w.nii.gz: a link that leads nowhere" in capsys.readouterr().out


def test_files_that_bids_does_not_know_are_named_and_two_of_one_name_refused(
    models: Path, heads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = dataset(tmp_path / "raw", heads)
    image = (source / "sub-02/anat/sub-02_acq-fast_T2w.nii.gz").read_bytes()
    for place in ("sub-01/ses-1/anat/T1w.nii.gz", "sub-02/anat/sub-01_T1w.nii.gz"):
        (source / place).write_bytes(image)
    translate_files(source, tmp_path / "derived", "ct", str(models))
    said = capsys.readouterr().out
    assert "sub-01/ses-1/anat/T1w.nii.gz: not named or placed as BIDS says" in said
    assert "sub-02/anat/sub-01_T1w.nii.gz: not named or placed as BIDS says" in said
    assert said.count("not read:") == 2
    (source / "sub-02/anat/sub-02_acq-fast_T2w.nii").write_bytes(image)
    with pytest.raises(UserError, match="both would become"):
        translate_files(source, tmp_path / "again", "ct", str(models))


def test_one_file_of_a_data_set_gets_its_sidecar_beside_it(models: Path, heads, tmp_path: Path) -> None:
    source = dataset(tmp_path / "raw", heads) / "sub-02/anat/sub-02_acq-fast_T2w.nii.gz"
    translate_files(source, tmp_path / "ct.nii.gz", "ct", str(models))
    assert json.loads((tmp_path / "ct.json").read_text())["Sources"] == [source.name]


def test_a_data_set_without_what_is_to_be_translated_is_one_line(models: Path, heads, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a BIDS data set without CT; expected files that end in ct"):
        translate_files(dataset(tmp_path / "raw", heads), tmp_path / "out", "mr", str(models))
    assert not (tmp_path / "out").exists()
