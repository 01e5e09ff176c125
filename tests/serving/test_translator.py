"""Slices and volumes in, the same geometry out; results read with the tools that a researcher would use."""

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from pipeline.errors import UserError
from pipeline.formats.slices import OtherModality
from pipeline.formats.synthetic import Label
from pipeline.imaging.prepare import NoHead
from pipeline.params import Preprocess
from pipeline.serving.translator import Translator
from tests.serving import examinations


def test_a_picture_comes_back_in_its_size_and_format(to_ct: Translator, heads, tmp_path: Path) -> None:
    source = examinations.png(tmp_path / "mr.png", np.pad(heads[1][0], ((10, 30), (5, 0))))
    summary = to_ct.translate(source, tmp_path / "ct.png")
    with Image.open(tmp_path / "ct.png") as made:
        assert (made.size, made.mode, made.format) == ((133, 168), "L", "PNG")
        assert np.asarray(made)[:8].max() == 0  # nothing where no head was
        assert np.asarray(made).max() > 0
    assert (summary.slices, summary.without_head) == (1, 0)


def test_the_same_picture_twice_gives_the_same_bytes(to_ct: Translator, heads, tmp_path: Path) -> None:
    source = examinations.png(tmp_path / "mr.png", heads[1][0])
    for name in ("a.png", "b.png"):
        to_ct.translate(source, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR"])
def test_nifti_keeps_its_affine_and_gets_hounsfield_units(to_ct: Translator, heads, tmp_path: Path, axes: str) -> None:
    image = examinations.nifti(tmp_path / "mr.nii.gz", heads[1], axes)
    to_ct.translate(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz")
    made = nibabel.load(tmp_path / "ct.nii.gz")
    assert made.shape == image.shape
    assert np.allclose(made.affine, image.affine)
    values = np.asarray(made.dataobj)
    assert values.min() == -1000
    assert values.max() <= 3000
    head = np.asarray(image.dataobj) > 0.2
    assert (values[head] > -1000).mean() > 0.97  # head where the head was: nothing was turned or moved
    itk, before = SimpleITK.ReadImage(str(tmp_path / "ct.nii.gz")), SimpleITK.ReadImage(str(tmp_path / "mr.nii.gz"))
    assert np.allclose(itk.GetOrigin(), before.GetOrigin())
    assert np.allclose(itk.GetDirection(), before.GetDirection())
    assert np.allclose(itk.GetSpacing(), before.GetSpacing())


def test_dicom_mr_series_becomes_a_ct_series_in_its_place(to_ct: Translator, heads, tmp_path: Path) -> None:
    examinations.dicom_series(tmp_path / "mr", heads[1], "MR")
    to_ct.translate(tmp_path / "mr", tmp_path / "ct")
    before, made = (_itk_series(tmp_path / name) for name in ("mr", "ct"))
    assert made.GetSize() == before.GetSize()
    for what in ("GetOrigin", "GetDirection", "GetSpacing"):
        assert np.allclose(getattr(made, what)(), getattr(before, what)()), what
    values = SimpleITK.GetArrayFromImage(made)
    assert values.min() == -1000
    assert values.max() <= 3000
    head = SimpleITK.GetArrayFromImage(before) > 300
    assert (values[head] > -1000).mean() > 0.97


def test_dicom_says_what_it_is(to_ct: Translator, heads, tmp_path: Path) -> None:
    sources = {pydicom.dcmread(file).SOPInstanceUID: file for file in examinations.dicom_series(tmp_path / "mr", heads[1], "MR")}
    to_ct.translate(tmp_path / "mr", tmp_path / "ct")
    made = [pydicom.dcmread(file) for file in sorted((tmp_path / "ct").iterdir())]
    assert len({one.SOPInstanceUID for one in made} | set(sources)) == 6
    assert len({one.SeriesInstanceUID for one in made}) == 1
    for one in made:
        source = pydicom.dcmread(sources[one.SourceImageSequence[0].ReferencedSOPInstanceUID])
        assert one.ImagePositionPatient == source.ImagePositionPatient
        assert one.SeriesInstanceUID != source.SeriesInstanceUID
        assert (one.StudyInstanceUID, one.PatientID) == (source.StudyInstanceUID, "P1")
        assert (one.Modality, one.ImageType[0]) == ("CT", "DERIVED")
        assert "SYNTHETIC, NOT FOR DIAGNOSIS" in one.SeriesDescription
        assert "mr-to-ct" in one.SoftwareVersions
        assert (one.RescaleSlope, one.RescaleIntercept, one.RescaleType) == (1, 0, "HU")


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_dicom_passes_the_validator(to_ct: Translator, to_mr: Translator, heads, tmp_path: Path, modality: str) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy absent: apt-get install dicom3tools")
    examinations.dicom_series(tmp_path / "in", heads[1 if modality == "MR" else 0], modality)
    (to_ct if modality == "MR" else to_mr).translate(tmp_path / "in", tmp_path / "out")
    for file in (tmp_path / "out").iterdir():
        said = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
        assert ("MRImage" if modality == "CT" else "CTImage") in said.stderr + said.stdout


def test_one_dicom_file_becomes_one_file(to_mr: Translator, heads, tmp_path: Path) -> None:
    (file,) = examinations.dicom_series(tmp_path / "ct", heads[0][:1], "CT")
    to_mr.translate(file, tmp_path / "mr.dcm", contrast="t2")
    made = pydicom.dcmread(tmp_path / "mr.dcm")
    assert made.Modality == "MR"
    assert "t2" in made.SeriesDescription
    assert made.pixel_array.max() > 0


def test_uncertainty_is_written_beside_in_the_same_geometry(to_ct: Translator, heads, tmp_path: Path) -> None:
    before = examinations.nifti(tmp_path / "mr.nii.gz", heads[1])
    to_ct.translate(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz", uncertainty=tmp_path / "uncertainty.nii.gz")
    uncertainty = nibabel.load(tmp_path / "uncertainty.nii.gz")
    values = uncertainty.get_fdata()
    assert np.allclose(uncertainty.affine, before.affine)
    assert values.shape == before.shape
    assert 0 < values.max() <= 1
    assert values.min() == 0  # outside the head nothing is uncertain


def test_dicom_has_no_place_for_uncertainty(to_ct: Translator, heads, tmp_path: Path) -> None:
    examinations.dicom_series(tmp_path / "mr", heads[1], "MR")
    with pytest.raises(UserError, match="for DICOM look at it with ctmr serve"):
        to_ct.translate(tmp_path / "mr", tmp_path / "out", uncertainty=tmp_path / "uncertainty.png")
    assert not (tmp_path / "out").exists()


def test_slices_without_a_head_stay_empty_and_are_counted(to_ct: Translator, heads, tmp_path: Path) -> None:
    examinations.nifti(tmp_path / "mr.nii", np.concatenate([heads[1], np.zeros_like(heads[1][:2])]))
    summary = to_ct.translate(tmp_path / "mr.nii", tmp_path / "ct.nii")
    assert (summary.slices, summary.without_head) == (5, 2)
    assert "2 of 5" in summary.warnings[0]
    assert np.asarray(nibabel.load(tmp_path / "ct.nii").dataobj)[:, :, -2:].max() == -1000


def test_a_ct_given_to_a_model_for_mr_is_named(to_ct: Translator, heads, tmp_path: Path) -> None:
    examinations.dicom_series(tmp_path / "ct", heads[0], "CT")
    with pytest.raises(OtherModality, match=r"CT by its header or its values; this model translates MR, .*--to mr"):
        to_ct.translate(tmp_path / "ct", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_refused_before_it_is_translated(heads, tmp_path: Path) -> None:
    class Never:
        def translate(self, images, contrast):
            raise AssertionError("translated in vain")

    to_ct = Translator(Never(), "mr_to_ct", Preprocess(pixels=64), conditional=False, label=Label("mr-to-ct"))
    nifti = tmp_path / "mr.nii.gz"
    examinations.nifti(nifti, heads[1])
    examinations.dicom_series(tmp_path / "even", heads[1], "MR")
    files = examinations.dicom_series(tmp_path / "uneven", np.repeat(heads[1], 2, axis=0), "MR")
    files[1].unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.new("L", (9, 9))])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    for source, target, reason in (
        (tmp_path / "uneven", "ct.nii.gz", "its slices are unevenly spaced; write DICOM"),
        (tmp_path / "even", "full", "not an empty folder"),
        (nifti, "ct.png", "the result is a NIfTI file, not picture"),
        (nifti, "ct.xyz", "give it a name that ends in"),
        (nifti, "full/mine.txt/ct.nii.gz", r"mine\.txt is a file, no folder"),
        (tmp_path / "pages.tif", "pages.png", "2 pages need a .tif file"),
    ):
        with pytest.raises(UserError, match=reason):
            to_ct.translate(source, tmp_path / target)
        assert not (tmp_path / target).is_file()
    with pytest.raises(UserError, match="give it a name that ends in"):
        to_ct.translate(nifti, tmp_path / "ct.nii.gz", uncertainty=tmp_path / "uncertainty.xyz")


def test_what_is_translated_is_never_written_over(to_ct: Translator, heads, tmp_path: Path) -> None:
    picture, nifti = examinations.png(tmp_path / "mr.png", heads[1][0]), tmp_path / "mr.nii.gz"
    examinations.nifti(nifti, heads[1])
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for source, target, uncertainty in (
        (picture, tmp_path, None),  # a folder: the file in it that has the source's name
        (picture, tmp_path / "mr", None),
        (picture, tmp_path / "ct.png", picture),
        (nifti, tmp_path, None),
    ):
        with pytest.raises(UserError, match="would write over what is being translated"):
            to_ct.translate(source, target, uncertainty=uncertainty)
    with pytest.raises(UserError, match="would write over the translation"):
        to_ct.translate(picture, tmp_path / "ct.png", uncertainty=tmp_path / "ct")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_cannot_be_translated_says_why(to_ct: Translator, to_mr: Translator, heads, tmp_path: Path) -> None:
    blank = examinations.png(tmp_path / "blank.png", np.zeros((100, 100), np.float32))
    with pytest.raises(NoHead, match="no head found"):
        to_ct.translate(blank, tmp_path / "out.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError, match=r"notes\.txt"):
        to_ct.translate(tmp_path / "notes.txt", tmp_path / "out.png")
    good = examinations.png(tmp_path / "mr.png", heads[1][0])
    with pytest.raises(UserError, match="the result is a picture"):
        to_ct.translate(good, tmp_path / "out.dcm")
    with pytest.raises(UserError, match="choose one of t1, t2"):
        to_mr.translate(good, tmp_path / "out.png", contrast="t9")
    with pytest.raises(UserError, match="no MR contrast"):
        to_ct.translate(good, tmp_path / "out.png", contrast="t1")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious.txt").write_text("mine")
    examinations.dicom_series(tmp_path / "series", heads[1], "MR")
    with pytest.raises(UserError, match="not an empty folder"):
        to_ct.translate(tmp_path / "series", tmp_path / "full")
    assert not (tmp_path / "out.png").exists()


def test_weights_that_were_swapped_are_refused(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(models, tmp_path / "models")
    weights = tmp_path / "models/mr_to_ct.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"damaged.*copy it again.*ctmr doctor --fix"):  # it may be a registered model's
        Translator.from_folder(tmp_path / "models", "mr_to_ct")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/model.json").write_text('{"model": {"gen')
    with pytest.raises(UserError, match=r"no usable model.json .*ctmr doctor --fix"):
        Translator.from_folder(tmp_path / "cut", "mr_to_ct")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"damaged.*dvc checkout models"):
        Translator.from_folder(Path("models"), "mr_to_ct")


def _itk_series(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()
