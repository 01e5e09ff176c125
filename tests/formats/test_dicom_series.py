"""Series of DICOM files as volumes: in order of place, with what is missing or there twice, and back into each file's own layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from pipeline.errors import UserError
from pipeline.formats import dicom_series, table
from pipeline.formats.slices import Unreadable
from tests.formats.dicom_files import write, write_enhanced

PICTURE = np.arange(12, dtype=np.int16).reshape(3, 4)


def write_series(folder: Path, positions: list[float], **attributes: object) -> Path:
    """One file a position; names, instance numbers and values run against the positions, so that only the place can sort them."""
    for index, position in enumerate(positions):
        write(folder / f"{len(positions) - index:03d}.dcm", PICTURE + 1024 + int(position), position, InstanceNumber=index, **attributes)
    return folder


def test_slices_are_sorted_by_place(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5, 15, 20]))
    assert [one.position for one in volume.slices] == [0, 5, 10, 15, 20]
    assert [int(one.pixels[0, 0]) for one in volume.slices] == [0, 5, 10, 15, 20]
    assert volume.format == "DICOM"
    assert volume.warnings == []


def test_a_series_lying_the_other_way_up_is_the_same_volume(tmp_path: Path) -> None:
    """Feet-first series have their normal pointing to the feet; slices still run from foot to head."""
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]))
    assert [one.position for one in volume.slices] == [0, 5, 10]
    np.testing.assert_array_equal(volume.slices[0].pixels, PICTURE[:, ::-1])


def test_pictures_go_back_into_the_layout_of_their_files(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5], ImageOrientationPatient=[0, 1, 0, -1, 0, 0]))
    stored = volume.stored(np.stack([one.pixels for one in volume.slices]))
    assert stored.shape == (3, 3, 4)
    np.testing.assert_array_equal(stored, [PICTURE + place for place in (0, 5, 10)])
    assert [reference.file.name for reference in volume.origin] == ["002.dcm", "001.dcm", "003.dcm"]


def test_gaps_are_named(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [0, 5, 10, 25, 30, 40]))
    assert volume.warnings == ["3 slices are missing between the others, at 15, 20, 35 mm"]


def test_uneven_rounding_is_no_gap(tmp_path: Path) -> None:
    assert table.read_volume(write_series(tmp_path, [0, 4.9, 10.1, 15, 19.8])).warnings == []


def test_several_pictures_in_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"several pictures in the same place at 2 positions \(echoes or time points\?\)"):
        table.read_volume(write_series(tmp_path, [0, 5, 5, 10, 10, 10]))


def test_copies_of_a_file_count_once(tmp_path: Path) -> None:
    folder = write_series(tmp_path, [0, 5, 10])
    (folder / "copy").mkdir()
    (folder / "copy/again.dcm").write_bytes((folder / "001.dcm").read_bytes())
    assert len(table.read_volume(folder).slices) == 3


def test_two_series_need_a_choice(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 5, 10])
    write_series(tmp_path / "b", [0, 5, 10], SeriesInstanceUID="1.2.3")
    with pytest.raises(UserError, match="several series"):
        table.read_volume(tmp_path)


def test_a_localizer_beside_the_series_is_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 5, 10, 15])
    write_series(tmp_path / "b", [0, 5], SeriesInstanceUID="1.2.3", ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    (tmp_path / "notes.txt").write_text("no picture")
    assert len(table.read_volume(tmp_path).slices) == 4


def test_sagittal_series_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="no axial slices; convert the series to NIfTI"):
        table.read_volume(write_series(tmp_path, [0, 5], ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))


def test_enhanced_frames_are_sorted_and_keep_their_number(tmp_path: Path) -> None:
    stored = np.stack([PICTURE, PICTURE, PICTURE]).astype(np.uint16)
    volume = table.read_volume(write_enhanced(tmp_path / "a.dcm", stored, [10.0, 0.0, 5.0]))
    assert [one.position for one in volume.slices] == [0, 5, 10]
    assert [reference.frame for reference in volume.origin] == [1, 2, 0]


def test_a_series_that_pydicom_ships() -> None:
    folder = Path(str(get_testdata_file("dicomdirtests/DICOMDIR"))).parent / "98892001/CT5N"
    volume = table.read_volume(folder)
    assert [one.position for one in volume.slices] == [-1.2375, 1.2625, 3.7625, 6.2625, 8.7625]
    (found,) = dicom_series.find(sorted(folder.iterdir()))
    assert (found.missing, found.twice, found.spacing) == ([], [], 2.5)


def test_a_picture_is_a_volume_of_one(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=np.uint8) * 255).save(tmp_path / "a.png")
    volume = table.read_volume(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.stored(np.stack([one.pixels for one in volume.slices])), np.eye(4)[np.newaxis])


def test_folders_without_dicom_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no DICOM pictures in this folder"):
        table.read_volume(tmp_path)
