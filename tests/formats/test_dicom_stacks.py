"""Files of a data folder: a DICOM series is one volume, named by its first file; what is no stack stays as it is."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline.formats import table
from pipeline.formats.slices import NotAxial, OtherModality, Truncated
from tests.formats.dicom_files import write, write_enhanced

PICTURE = np.arange(12, dtype=np.int16).reshape(3, 4) + 1024
SAGITTAL = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}


def sagittal(folder: Path, step: float = 1.0, count: int = 6, **attributes: object) -> Path:
    for index in range(count):
        place = [-3 + step * index, -120, 40]
        write(folder / f"IM{index}.dcm", PICTURE + 100 * index, ImagePositionPatient=place, InstanceNumber=index, **SAGITTAL, **attributes)
    return folder


def own_images(folder: Path) -> list[str]:
    return [file.name for file in sorted(folder.iterdir()) if not table.is_part(file)]


def test_a_sagittal_series_is_one_volume_of_axial_slices(tmp_path: Path) -> None:
    folder = sagittal(tmp_path)
    assert own_images(folder) == ["IM0.dcm"]
    slices = table.read_slices(folder / "IM0.dcm", "ct")
    assert [slice_.frame for slice_ in slices] == [0, 1, 2]
    assert slices[0].pixels.shape == (4, 6)
    np.testing.assert_array_equal(slices[2].pixels[0], 100 * np.arange(6))
    volume = table.read_stack(folder / "IM0.dcm", "ct")
    assert volume.voxels.shape == (4, 3, 6)
    assert table.image_of(folder / "IM4.dcm") == folder / "IM0.dcm"


def test_a_sagittal_file_of_many_frames_is_one_too(tmp_path: Path) -> None:
    stored = np.stack([PICTURE] * 4).astype(np.uint16)
    file = write_enhanced(tmp_path / "a.dcm", stored, [0.0, 1.0, 2.0, 3.0])
    dataset = pydicom.dcmread(file)
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = SAGITTAL["ImageOrientationPatient"]
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [float(number), -120, 40]
    dataset.save_as(file)
    slices = table.read_slices(file, "mr")
    assert [slice_.pixels.shape for slice_ in slices] == [(4, 4)] * 3


def test_series_in_one_folder_are_told_apart(tmp_path: Path) -> None:
    sagittal(tmp_path)
    for index in range(4):
        write(tmp_path / f"other{index}.dcm", PICTURE, 5.0 * index, SeriesInstanceUID="1.2.3")
    assert own_images(tmp_path) == ["IM0.dcm", "other0.dcm"]
    assert [slice_.position for slice_ in table.read_slices(tmp_path / "other0.dcm", "ct")] == [0, 5, 10, 15]


def test_slices_of_several_patients_stay_images_of_their_own(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path / f"a/{index}.dcm", PICTURE, 5.0 * index, SeriesInstanceUID=f"1.2.{index}")
        write(tmp_path / f"b/{index}.dcm", PICTURE, [0.0, 5.0, 10.0, 300.0, 800.0][index])  # one series by its number, no stack
    assert len(own_images(tmp_path / "a")) == len(own_images(tmp_path / "b")) == 5


def test_a_file_that_was_cut_off_does_not_spoil_the_others(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path / f"{index}.dcm", PICTURE, 5.0 * index)
    cut = tmp_path / "2.dcm"
    cut.write_bytes(cut.read_bytes()[:-8])
    assert own_images(tmp_path) == ["0.dcm", "2.dcm"]
    assert [slice_.position for slice_ in table.read_slices(tmp_path / "0.dcm", "ct")] == [0, 5, 15, 20]
    with pytest.raises(Truncated):
        table.read_slices(cut, "ct")


def test_a_thick_sagittal_series_is_one_line_not_one_a_file(tmp_path: Path) -> None:
    folder = sagittal(tmp_path, step=5.0)
    assert own_images(folder) == ["IM0.dcm"]
    with pytest.raises(NotAxial, match=r"IM0.dcm: sagittal slices 5 mm apart; axial slices are made of steps of at most 3 mm"):
        table.read_slices(folder / "IM0.dcm", "ct")


def test_a_real_mprage_is_one_volume(real_volumes: Path) -> None:
    folder = real_volumes / "mr_mprage_sagittal/mprage"
    (first,) = (file for file in sorted(folder.iterdir()) if not table.is_part(file))
    assert len(table.files_of(first)) == 170
    volume = table.read_stack(first, "mr")
    assert len(volume.slices) == 256
    assert volume.slices[128].pixels.shape == (256, 170)


def test_pages_and_scouts_of_a_real_study_are_set_aside(real_volumes: Path) -> None:
    study = real_volumes / "ct_phantom_study/study"
    assert len(own_images(study / "S2010")) == 2  # the head, and DIRFILE, which is refused
    for page in sorted((study / "S4010").glob("I*")):
        with pytest.raises(OtherModality, match="a page for reading"):
            table.read_slices(page, "ct")
    with pytest.raises(NotAxial, match="a localizer"):
        table.read_slices(study / "S1000/I10", "ct")
    with pytest.raises(OtherModality, match="a DICOMDIR"):
        table.read_slices(study / "S2010/DIRFILE", "ct")
