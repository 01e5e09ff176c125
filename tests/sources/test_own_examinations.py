"""A researcher's DICOM and NIfTI files through the whole graph: they become arrays and models, and not a name of a patient is written."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import yaml

from pipeline import paths
from pipeline.phantom import simulate_subject
from tests.formats.dicom_files import write
from tests.graph.projects import STAGES, Project, copy_project

SECRETS = ("Zyxwvut", "Quentin", "ID-98", "19371231", "Musterstadt", "Qwertzium", "Geheimrat", "ACC-5566", "Vorgeschichte")
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
        }  # fmt: skip
        for index, head in enumerate(heads):
            place = 100 * SLICES[index]
            stored = np.rint(head.ct).astype(np.int16) + 1024
            file = folder / f"ct/Zyxwvut{number}_Quentin/IM{index}.dcm"
            whisper(write(file, stored.astype(np.uint16), place, PixelSpacing=[1.8, 1.8], **told), name)
            if number % 2:
                stored = np.rint(head.mr * 900).astype(np.uint16)
                mr = {"Modality": "MR", "RepetitionTime": 4000, "EchoTime": 100, "ScanningSequence": "SE", "PixelSpacing": [1.8, 1.8]}
                whisper(write(folder / f"mr/ID-98{number:04d}/IM{index}.dcm", stored, place, **told, **mr), name)
        if not number % 2:
            volume = np.stack([head.mr.T[::-1, ::-1] * 900 for head in heads], axis=-1).astype(np.int16)
            image = nibabel.Nifti1Image(volume, np.diag([1.8, 1.8, 5.0, 1.0]))
            image.header["descrip"], image.header["db_name"] = f"head of {name}".encode(), b"Musterstadt"
            image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", f"Vorgeschichte of {name}".encode()))
            (folder / "mr").mkdir(exist_ok=True)
            nibabel.save(image, folder / f"mr/sub-{number:02d}_T2w.nii.gz")


def whisper(file: Path, name: str) -> None:
    """The name again where few look: private tags, a sequence, a label of an overlay, and after the pixels."""
    dataset = pydicom.dcmread(file)
    private = dataset.private_block(0x0011, "Geheimrat", create=True)
    private.add_new(0x01, "LO", name)
    private.add_new(0x02, "LT", f"Vorgeschichte of {name}")
    other = pydicom.Dataset()
    other.PatientID, other.IssuerOfPatientID = name, "Musterstadt"
    dataset.OtherPatientIDsSequence = pydicom.Sequence([other])
    dataset.add_new(0x60001500, "LO", name)
    dataset.DataSetTrailingPadding = f"Vorgeschichte of {name}".encode()
    dataset.save_as(file)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has run all stages on them, which DVC holds; what they printed is in printed.txt."""
    root = tmp_path_factory.mktemp("own")
    examinations(root / "Export_Zyxwvut")
    settings = (
        "data.source=folder",
        f"data.folder={root / 'Export_Zyxwvut'}",
        "preprocess.pixels=32",
        "train.images=8",
        "train.teacher.images=8",
    )
    project = copy_project(root, "smoke", *settings)
    project = replace(project, env={**project.env, "CTMR_SALT": ""})  # it makes a salt of its own
    (project.folder / "printed.txt").write_text(project.run_stages(*STAGES) + project.run("dvc", "commit", "-f").stdout)
    return project


@pytest.fixture
def project(done: Project) -> Path:
    return done.folder


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
    assert index.loc[index["modality"] == "ct", "intensity_low"].unique().tolist() == [-1000.0]  # DICOM knows its whole range
    assert index.loc[index["modality"] == "ct", "intensity_high"].unique().tolist() == [3000.0]


def test_not_a_name_is_written(project: Path) -> None:
    """Neither in names of files nor in what the graph wrote: reports, arrays, weights, MLflow's database and artifacts, DVC's cache.

    Left out: the user's original files in data/raw (in DVC's cache too), and the folder's name where the user's own params hold it.
    """
    names = [str(file.relative_to(project)) for file in project.rglob("*")]
    found = [(word, name) for word in SECRETS for name in names if word.lower() in name.lower()]
    raw = [file for modality in paths.MODALITIES for file in (project / "data/raw" / modality).rglob("*") if file.is_file()]
    originals = {file.read_bytes() for file in raw}
    own = (".git", "tests", "params.yaml", "dvc.lock", ".dvc/cache/runs")  # the last holds copies of dvc.lock
    files = {file.relative_to(project): file for file in project.rglob("*") if file.is_file()}
    contents = {place: file.read_bytes() for place, file in files.items() if not any(place.is_relative_to(name) for name in own)}
    written = {place.as_posix(): content.lower() for place, content in contents.items() if content not in originals}
    assert {"data/raw/source.json", "mlruns/mlflow.db", "reports/register/model_card.md", "printed.txt"} <= written.keys()
    assert any(name.startswith(".dvc/cache/") for name in written)
    found += [(word, name) for name, content in written.items() for word in SECRETS if word.lower().encode() in content]
    assert not found


def test_the_salt_is_not_in_any_output(project: Path) -> None:
    salt = (project / ".salt").read_bytes().strip()
    assert len(salt) == 64
    assert not [file for file in project.rglob("*") if file.is_file() and file.name != ".salt" and salt in file.read_bytes()]


def test_later_data_is_compared_with_that_of_a_registered_model(done: Project) -> None:
    kept = (done.folder / paths.STATISTICS_JSON).read_bytes()
    done.run("ctmr", "reference", "mr-to-ct/1")
    reference = Path(yaml.safe_load((done.folder / paths.PARAMS).read_text())["quality"]["drift_reference"])
    assert (done.folder / reference).read_bytes() == kept
    done.run_stages("validate")
    drift = json.loads((done.folder / paths.DRIFT_JSON).read_text())
    assert (drift["reference"], drift["drifted"]) == (reference.as_posix(), False)
    assert len(drift["tests"]) == 12
