"""Files as they come: too large, sparse, empty, and real examinations that pydicom brings along."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image
from pydicom.data import get_testdata_file

from pipeline import cli
from pipeline.errors import UserError
from pipeline.serving.translate_files import translate_files
from pipeline.serving.translator import Translator
from tests.serving import examinations


def test_a_picture_of_ten_thousand_pixels_a_side_is_one_line(to_ct: Translator, tmp_path: Path) -> None:
    Image.new("L", (10_000, 10_000)).save(tmp_path / "large.png")
    _refused(to_ct, tmp_path / "large.png", tmp_path / "out.png")


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files are a matter of the file system")
@pytest.mark.parametrize("name", ["large.png", "large.dcm", "large.nii"])
def test_two_gigabytes_of_nothing_are_one_line(to_ct: Translator, tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2 * 2**30)
    _refused(to_ct, tmp_path / name, tmp_path / f"out{Path(name).suffix}")


@pytest.mark.parametrize("name", ["empty.png", "empty.dcm", "empty.nii.gz"])
def test_an_empty_file_is_one_line(to_ct: Translator, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    _refused(to_ct, tmp_path / name, tmp_path / f"out-{name}")


def test_results_of_a_folder_have_names_of_their_own(to_ct: Translator, heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.translate_files.choose_translator", lambda *_: to_ct)
    for name in ("a.png", "b.dat", "c"):
        examinations.png(tmp_path / "in/picture.png", heads[1][0]).rename(tmp_path / "in" / name)
    translate_files(tmp_path / "in", tmp_path / "out", "ct", "box")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.png", "b.dat.png", "c.png"]
    shutil.copy(tmp_path / "in/a.png", tmp_path / "in/a")
    with pytest.raises(UserError, match=r"a and a\.png: both would become a\.png; rename one of them"):
        translate_files(tmp_path / "in", tmp_path / "out2", "ct", "box")
    assert not (tmp_path / "out2").exists()


def test_a_real_ct_of_a_head_keeps_its_geometry(to_mr: Translator, tmp_path: Path) -> None:
    """One JPEG 2000 slice from a hospital: gantry, orientation and spacing as they were."""
    source = Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm", download=False)))
    shutil.copy(source, tmp_path / "ct.dcm")
    to_mr.translate(tmp_path / "ct.dcm", tmp_path / "mr.dcm")
    before, made = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "mr.dcm")
    for what in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "StudyInstanceUID"):
        assert getattr(made, what) == getattr(before, what), what
    assert made.Modality == "MR"
    assert made.SOPInstanceUID != before.SOPInstanceUID
    itk = SimpleITK.ReadImage(str(tmp_path / "mr.dcm"))
    assert np.allclose(itk.GetSpacing()[:2], [float(one) for one in reversed(before.PixelSpacing)])
    assert np.allclose(itk.GetOrigin(), [float(one) for one in before.ImagePositionPatient])


def _refused(translator: Translator, source: Path, target: Path) -> None:
    with pytest.raises(UserError) as refusal:
        translator.translate(source, target)
    assert source.name in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not target.exists()


def test_a_slash_behind_the_target_means_a_folder(to_ct: Translator, heads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.serving.translate_files.choose_translator", lambda *_: to_ct)
    source = examinations.png(tmp_path / "mr.png", heads[1][0])
    cli.app(["translate", str(source), f"{tmp_path}/new/", "--to", "ct"], standalone_mode=False)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mr.png"]
