"""A researcher's DICOM and NIfTI files through the stages: they become arrays, and not a name of a patient is written anywhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.phantom import simulate_subject
from tests.imaging.dicom_files import write

PROJECT = Path(__file__).parents[2]
SECRETS = ("Zyxwvut", "Quentin", "ID-98", "19371231", "Musterstadt", "Qwertzium", "Geheimrat", "ACC-5566")
STAGES = ("download", "validate", "split", "preprocess")
PATIENTS = 6
SLICES = (0.45, 0.6, 0.75)


def examinations(folder: Path) -> None:
    """CT as DICOM series in folders named after their patients, MR as DICOM or NIfTI; names wherever a header has room for them."""
    for number in range(PATIENTS):
        heads = simulate_subject(number, SLICES, size=128, contrast="t2")
        name = f"Zyxwvut{number}^Quentin"
        told = {
            "PatientName": name, "PatientID": f"ID-98{number:04d}", "AccessionNumber": "ACC-5566", "StudyDescription": f"head of {name}",
            "SeriesInstanceUID": f"1.2.3.{number}", "ReferringPhysicianName": "Geheimrat^Zyxwvut", "ImageComments": "Qwertzium",
            "RequestAttributesSequence": None,
        }  # fmt: skip
        told.pop("RequestAttributesSequence")
        for index, head in enumerate(heads):
            place = 100 * SLICES[index]
            stored = np.rint(head.ct).astype(np.int16) + 1024
            write(folder / f"ct/Zyxwvut{number}_Quentin/IM{index}.dcm", stored.astype(np.uint16), place, PixelSpacing=[1.8, 1.8], **told)
            if number % 2:
                stored = np.rint(head.mr * 900).astype(np.uint16)
                mr = {"Modality": "MR", "RepetitionTime": 4000, "EchoTime": 100, "ScanningSequence": "SE", "PixelSpacing": [1.8, 1.8]}
                write(folder / f"mr/ID-98{number:04d}/IM{index}.dcm", stored, place, **told, **mr)
        if not number % 2:
            volume = np.stack([head.mr.T[::-1, ::-1] * 900 for head in heads], axis=-1).astype(np.int16)
            image = nibabel.Nifti1Image(volume, np.diag([1.8, 1.8, 5.0, 1.0]))
            image.header["descrip"], image.header["db_name"] = f"head of {name}".encode(), b"Musterstadt"
            (folder / "mr").mkdir(exist_ok=True)
            nibabel.save(image, folder / f"mr/sub-{number:02d}_T2w.nii.gz")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run the stages up to the arrays; what they printed is in printed.txt."""
    folder = tmp_path_factory.mktemp("project")
    examinations(folder.parent / "hospital")
    shutil.copy(PROJECT / "dvc.yaml", folder)
    yaml = YAML()
    settings = yaml.load(PROJECT / "params.yaml")
    settings["data"]["source"], settings["data"]["folder"] = "folder", str(folder.parent / "hospital")
    settings["preprocess"]["size"], settings["preprocess"]["teacher_pairs"], settings["train"]["teacher"]["images"] = 64, 0, 0
    yaml.dump(settings, folder / "params.yaml")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    environment.pop("CTMR_SALT", None)  # the project makes a salt of its own
    printed = ""
    for stage in STAGES:
        done = subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=environment, capture_output=True, text=True)
        printed += done.stdout + done.stderr
        assert done.returncode == 0, printed
    (folder / "printed.txt").write_text(printed)
    return folder


def test_patients_stay_together_and_every_slice_is_used(project: Path) -> None:
    import pandas as pd

    manifest = pd.read_parquet(project / "data/manifest.parquet")
    assert len(manifest) == 2 * PATIENTS * len(SLICES)
    assert set(manifest["status"]) == {"ok"}
    # A patient's CT and MR in DICOM share a key; in NIfTI nothing says whose head it is.
    assert manifest["group_key"].nunique() == PATIENTS + PATIENTS // 2
    assert set(manifest.loc[manifest["path"].str.endswith(".dcm") & (manifest["modality"] == "mr"), "contrast"]) == {"t2"}
    split = manifest.merge(pd.read_parquet(project / "data/split.parquet"), on="slice_id")
    assert (split.groupby("group_key")["split"].nunique() == 1).all()
    index = pd.read_parquet(project / "data/slices/index.parquet")
    assert index.loc[index["modality"] == "ct", "intensity_low"].unique().tolist() == [0.0]  # the window of 80 HU at 40
    assert index.loc[index["modality"] == "ct", "intensity_high"].unique().tolist() == [80.0]


def test_not_a_name_is_written(project: Path) -> None:
    """In names of files and in all that lies outside data/raw, which keeps the original files."""
    names = [str(file.relative_to(project)) for file in project.rglob("*")]
    found = [(word, name) for word in SECRETS for name in names if word.lower() in name.lower()]
    read = [
        file
        for file in project.rglob("*")
        if file.is_file() and not file.is_relative_to(project / "data/raw") and file.name != "params.yaml"
    ]
    read += [project / "data/raw/source.json"]
    assert len(read) > 10
    found += [(word, str(file)) for file in read for word in SECRETS if word.lower().encode() in file.read_bytes().lower()]
    assert not found


def test_the_salt_is_not_in_any_output(project: Path) -> None:
    salt = (project / ".salt").read_bytes().strip()
    assert len(salt) == 64
    assert not [file for file in project.rglob("*") if file.is_file() and file.name != ".salt" and salt in file.read_bytes()]
