"""A hospital's CT series and the MR of 152 people, as pydicom and nilearn ship them, through the translator."""

import importlib.resources
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from pipeline.serving.translator import Translator

BRAIN_CT = "dicomdirtests/77654033/CT2/{}"  # 1.25 mm apart; their pixels were taken out before they were given away (16×16 of noise)


def hospital_series(folder: Path, slices: NDArray[np.float32]) -> list[Path]:
    """The headers of a "Routine Brain" CT series with simulated heads (N, H, W), Hounsfield units, for pixels."""
    folder.mkdir()
    files = []
    for number, picture in zip(("17136", "17166", "17196"), slices, strict=True):
        one = pydicom.dcmread(get_testdata_file(BRAIN_CT.format(number)))
        stored = np.rint((picture - float(one.RescaleIntercept)) / float(one.RescaleSlope)).astype(
            "<i2" if one.PixelRepresentation else "<u2"
        )
        one.Rows, one.Columns, one.PixelSpacing = *picture.shape, [1.8, 1.8]
        one.PixelData = stored.tobytes()
        files.append(folder / number)
        one.save_as(files[-1])
    return files


def test_a_hospital_series_becomes_mr_and_ct_again_in_its_place(to_mr: Translator, to_ct: Translator, heads, tmp_path: Path) -> None:
    files = hospital_series(tmp_path / "ct", np.clip(heads[0], -1000, 2000))
    to_mr.translate(tmp_path / "ct", tmp_path / "mr")
    to_ct.translate(tmp_path / "mr", tmp_path / "back")
    sources = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files)}
    for file in (tmp_path / "mr").iterdir():
        made = pydicom.dcmread(file)
        source = sources[made.SourceImageSequence[0].ReferencedSOPInstanceUID]
        for what in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "StudyInstanceUID"):
            assert getattr(made, what) == getattr(source, what), what
        assert (made.Modality, source.Modality) == ("MR", "CT")
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
    before, made, back = (itk_series(tmp_path / name) for name in ("ct", "mr", "back"))
    for one in (made, back):
        assert one.GetSize() == before.GetSize()
        for what in ("GetOrigin", "GetDirection", "GetSpacing"):
            assert np.allclose(getattr(one, what)(), getattr(before, what)()), what
    values = SimpleITK.GetArrayFromImage(back)
    assert values.min() == -1000
    assert values.max() <= 3000


def test_the_mni152_becomes_ct_in_its_place(to_ct: Translator, tmp_path: Path) -> None:
    """Seven slices, stored from right to left."""
    whole = nibabel.load(importlib.resources.files("nilearn.datasets.data") / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    source = tmp_path / "mr.nii.gz"
    nibabel.save(whole.slicer[::-1, :, 60:130:10], source)
    to_ct.translate(source, tmp_path / "ct.nii")
    before, made = nibabel.load(source), nibabel.load(tmp_path / "ct.nii")
    assert made.shape == before.shape
    assert nibabel.aff2axcodes(made.affine) == nibabel.aff2axcodes(before.affine)
    assert np.allclose(made.affine, before.affine)
    itk, itk_before = SimpleITK.ReadImage(str(tmp_path / "ct.nii")), SimpleITK.ReadImage(str(source))
    for what in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert np.allclose(getattr(itk, what)(), getattr(itk_before, what)()), what
    values, seen = np.asarray(made.dataobj), before.get_fdata()
    assert values.min() == -1000
    assert values.max() <= 3000
    bright = seen > np.percentile(seen, 80)
    assert (values[bright] > -1000).mean() > 0.9  # head where the head was


def itk_series(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()
