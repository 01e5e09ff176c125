"""Series of DICOM files as volumes: in order of place, in any plane, with what is missing, there twice or set aside."""

import re
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage

from pipeline.errors import UserError
from pipeline.formats import table
from pipeline.formats.slices import NotAxial, OtherModality, Unreadable
from tests.formats.dicom_files import write, write_enhanced

PICTURE = np.arange(12, dtype=np.int16).reshape(3, 4)


def write_series(folder: Path, positions: list[float], **attributes: object) -> Path:
    """One file a position; names, instance numbers and values run against the positions, so that only the place can sort them."""
    for index, position in enumerate(positions):
        stored = np.rot90(PICTURE + 1024 + int(position) % 1000, 2 * (positions[:index].count(position) % 2))
        write(folder / f"{len(positions) - index:03d}.dcm", stored, position, **{"InstanceNumber": index, **attributes})
    return folder


def test_slices_are_sorted_by_place(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5, 15, 20]))
    assert [slice_.position for slice_ in volume.slices] == [0, 5, 10, 15, 20]
    assert [int(slice_.pixels[0, 0]) for slice_ in volume.slices] == [0, 5, 10, 15, 20]
    assert volume.format == "DICOM"
    assert volume.warnings == []


def test_a_series_lying_the_other_way_up_is_the_same_volume(tmp_path: Path) -> None:
    """Feet-first series have their normal pointing to the feet; slices still run from foot to head."""
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5], ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]))
    assert [slice_.position for slice_ in volume.slices] == [0, 5, 10]
    np.testing.assert_array_equal(volume.slices[0].pixels, PICTURE[:, ::-1])


def test_voxels_keep_the_layout_of_their_files(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5], ImageOrientationPatient=[0, 1, 0, -1, 0, 0]))
    np.testing.assert_array_equal(volume.voxels.transpose(2, 1, 0), [PICTURE + place for place in (0, 5, 10)])
    np.testing.assert_array_equal(volume.stored(np.stack([slice_.pixels for slice_ in volume.slices])), volume.voxels)
    assert [frame.file.name for frame in volume.origin] == ["002.dcm", "001.dcm", "003.dcm"]


def test_the_affine_is_that_of_the_header(tmp_path: Path) -> None:
    """Columns 0.75 mm to the left, rows 0.5 mm to the back, slices 5 mm to the head; nibabel's axes grow to the right and front."""
    volume = table.read_volume(write_series(tmp_path, [10, 0, 5]))
    np.testing.assert_allclose(volume.affine, [[-0.75, 0, 0, 100], [0, -0.5, 0, 120], [0, 0, 5, 0], [0, 0, 0, 1]])
    assert volume.offsets is None


def test_a_sagittal_series_is_a_volume_with_axial_slices(tmp_path: Path) -> None:
    """Six sagittal slices 0.5 mm apart make axial slices of six columns, the patient's right at their left."""
    for index in range(6):
        sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": [-1 + 0.5 * index, -120, 40]}
        write(tmp_path / f"{index}.dcm", PICTURE + 1024 + 100 * index, **sagittal)
    volume = table.read_volume(tmp_path)
    assert volume.voxels.shape == (4, 3, 6)
    axial = np.stack([slice_.pixels for slice_ in volume.slices])
    assert axial.shape == (3, 4, 6)
    np.testing.assert_array_equal(axial[-1][:, 0], PICTURE[0])  # the top row, from front to back
    np.testing.assert_array_equal(axial[0][0], PICTURE[-1, 0] + 100 * np.arange(6))
    np.testing.assert_array_equal(volume.stored(axial), volume.voxels)


def test_thick_sagittal_series_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / f"{index}.dcm", PICTURE, ImageOrientationPatient=[0, 1, 0, 0, 0, -1], ImagePositionPatient=[5 * index, -120, 40])
    with pytest.raises(NotAxial, match=r"sagittal slices 5 mm apart; axial slices are made of steps of at most 3 mm"):
        _ = table.read_volume(tmp_path).slices


def test_gaps_are_named(tmp_path: Path) -> None:
    volume = table.read_volume(write_series(tmp_path, [0, 5, 10, 25, 30, 40]))
    assert volume.warnings == ["3 slices are missing between the others, at 15, 20, 35 mm"]


def test_a_leap_of_instance_numbers_tells_of_a_lost_slice(tmp_path: Path) -> None:
    for number, place in ((1, 0), (2, 5), (4, 15), (6, 25), (7, 30)):
        write(tmp_path / f"{number}.dcm", PICTURE + place, place, InstanceNumber=number)
    assert table.read_volume(tmp_path).warnings == ["2 slices are missing between the others, at 10, 20 mm"]


def test_thin_slices_at_the_base_and_thick_ones_above_are_no_gap(tmp_path: Path) -> None:
    positions = [*np.arange(0, 40, 2.5), *np.arange(40, 120, 5.0)]
    volume = table.read_volume(write_series(tmp_path, positions))
    assert volume.warnings == []
    assert [slice_.position for slice_ in volume.slices] == positions
    assert volume.offsets == tuple(positions)


@pytest.mark.parametrize("steps", [[6, 2] * 5, [2, 2, 5, 5] * 3, [1.3, 2.9, 4.1, 1.7, 5.3, 2.2]])
def test_uneven_steps_are_no_gaps(steps: list[float], tmp_path: Path) -> None:
    assert table.read_volume(write_series(tmp_path, [0, *np.cumsum(steps).tolist()])).warnings == []


def test_uneven_rounding_is_no_gap(tmp_path: Path) -> None:
    assert table.read_volume(write_series(tmp_path, [0, 4.9, 10.1, 15, 19.8])).warnings == []


@pytest.mark.parametrize("places", [[0, 5, 10, 15, 1e9], [-1e9, 0, 5, 10, 15], [0, 5, 10, 15, 1e300]])
def test_a_place_beyond_all_measure_is_one_line_at_once(tmp_path: Path, places: list[float]) -> None:
    began = time.monotonic()
    with pytest.raises(Unreadable, match=r"a slice lies 1e\+\d+ mm from the next"):
        table.read_volume(write_series(tmp_path, places, InstanceNumber=1))
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(("spacing", "said"), [(["1e9"] * 2, "voxels of 1e+09 mm"), (["1e-9"] * 2, "voxels of 1e-09 mm")])
def test_a_spacing_that_no_head_has_is_one_line(tmp_path: Path, spacing: list[str], said: str) -> None:
    folder = write_series(tmp_path / "series", [0, 5, 10, 15], PixelSpacing=spacing)
    image = nibabel.Nifti1Image(np.zeros((8, 8, 4), np.int16), np.diag([float(spacing[0]), float(spacing[0]), 5, 1]))
    nibabel.save(image, tmp_path / "a.nii")
    for read in (table.read_volume, table.read_slices):
        for place in (folder, tmp_path / "a.nii") if read is table.read_volume else (folder / "001.dcm", tmp_path / "a.nii"):
            with pytest.raises(Unreadable, match=f"{re.escape(said)}; expected 0.005 to 20 mm between pixels, so its spacing is damaged"):
                read(place)


def test_several_pictures_in_one_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"several pictures in the same place at 2 positions \(echoes or time points\?\)"):
        table.read_volume(write_series(tmp_path, [0, 5, 5, 10, 10, 10]))


def test_copies_of_a_file_count_once_and_are_counted(tmp_path: Path) -> None:
    folder = write_series(tmp_path, [0, 5, 10])
    (folder / "copy").mkdir()
    (folder / "copy/again.dcm").write_bytes((folder / "001.dcm").read_bytes())
    volume = table.read_volume(folder)
    assert len(volume.slices) == 3
    assert volume.warnings == ["1 copies of slices (same place, same pixels) were left out"]


@pytest.mark.parametrize("uids", [["1.2.3"] * 6, ["1.2.3", "1.2.3", "1.2.4", "1.2.4", "1.2.5", "1.2.5"]])
def test_slices_with_the_same_instance_uid_all_count(uids: list[str], tmp_path: Path) -> None:
    for index, uid in enumerate(uids):
        write(tmp_path / f"{index}.dcm", PICTURE + index, 5 * index, SOPInstanceUID=uid)
    volume = table.read_volume(tmp_path)
    assert [slice_.position for slice_ in volume.slices] == [0, 5, 10, 15, 20, 25]
    assert volume.warnings == []


def test_slices_that_tell_no_position_are_taken_by_their_location(tmp_path: Path) -> None:
    """Instance numbers often run from head to foot; what they were taken by is said."""
    for number in range(4):
        where = {"ImagePositionPatient": None, "InstanceNumber": 4 - number, "SliceLocation": 5.0 * number}
        write(tmp_path / "located" / f"{number}.dcm", PICTURE + number, **where)
        write(tmp_path / "numbered" / f"{number}.dcm", PICTURE + number, **(where | {"SliceLocation": 0.0}))
    for folder, first, how in (("located", 0, "SliceLocation"), ("numbered", 3, "instance numbers")):
        volume = table.read_volume(tmp_path / folder, ct_values="hu")
        assert volume.voxels[0, 0, 0] == first - 1024
        assert f"its slices do not tell their place (ImagePositionPatient); taken by {how}" in volume.warnings[0]


def test_black_slices_without_place_are_no_copies_of_each_other(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.dcm", PICTURE, SOPInstanceUID="1.2.3", InstanceNumber=index, ImagePositionPatient=None)
    assert len(table.read_volume(tmp_path).slices) == 6


def test_a_series_uid_for_each_slice_is_one_series_by_its_places(tmp_path: Path) -> None:
    for index in range(5):
        write(tmp_path / f"{index}.dcm", PICTURE + index, 5 * index, SeriesInstanceUID=f"1.2.{index}")
    assert len(table.read_volume(tmp_path).slices) == 5


def test_two_series_need_a_choice(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 5, 10])
    write_series(tmp_path / "b", [0, 5, 10], SeriesInstanceUID="1.2.3")
    with pytest.raises(UserError, match="several series"):
        table.read_volume(tmp_path)


def test_what_lies_beside_the_series_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 5, 10, 15])
    write(tmp_path / "b/scout.dcm", PICTURE, 0, SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    page = {"SOPClassUID": SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}
    write(tmp_path / "c/dose.dcm", PICTURE, 0, SeriesInstanceUID="1.2.4", **page)
    (tmp_path / "notes.txt").write_text("no picture")
    volume = table.read_volume(tmp_path)
    assert len(volume.slices) == 4
    said = " ".join(volume.warnings)
    assert "1 × a localizer" in said
    assert "1 × a page for reading (dose" in said
    assert "1 other files in the folder are no DICOM" in said


def test_objects_of_radiotherapy_and_reports_are_set_aside(tmp_path: Path) -> None:
    write_series(tmp_path / "a", [0, 5, 10, 15])
    write(tmp_path / "b/dose.dcm", PICTURE, 0, Modality="RTDOSE", SeriesInstanceUID="1.2.3")
    for kind in ("SR", "RTSTRUCT", "RTPLAN"):
        file = write(tmp_path / f"b/{kind}.dcm", PICTURE, Modality=kind, SeriesInstanceUID="1.2.4")
        dataset = pydicom.dcmread(file)
        del dataset.PixelData, dataset.Rows, dataset.Columns
        dataset.save_as(file)
    volume = table.read_volume(tmp_path)
    assert len(volume.slices) == 4
    for what in ("a dose of radiotherapy", "a structured report", "contours of radiotherapy", "a plan of radiotherapy"):
        assert f"1 × {what}" in " ".join(volume.warnings)


def test_an_enhanced_frame_has_the_thickness_of_its_own_header(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "a.dcm", np.stack([PICTURE]).astype(np.uint16), [0.0])
    dataset = pydicom.dcmread(file)
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 4
    dataset.save_as(file)
    assert table.read_volume(file).voxel_size == (0.75, 0.5, 4.0)


def test_a_page_of_text_alone_is_refused(tmp_path: Path) -> None:
    page = {"SOPClassUID": SecondaryCaptureImageStorage, "ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Dose Report"}
    with pytest.raises(OtherModality, match="a page for reading"):
        table.read_volume(write(tmp_path / "a.dcm", PICTURE, **page))


def test_enhanced_frames_are_sorted_and_keep_their_number(tmp_path: Path) -> None:
    stored = np.stack([PICTURE, PICTURE, PICTURE]).astype(np.uint16)
    volume = table.read_volume(write_enhanced(tmp_path / "a.dcm", stored, [10.0, 0.0, 5.0]))
    assert [slice_.position for slice_ in volume.slices] == [0, 5, 10]
    assert [frame.frame for frame in volume.origin] == [1, 2, 0]


def test_a_series_that_pydicom_ships() -> None:
    folder = Path(str(get_testdata_file("dicomdirtests/DICOMDIR"))).parent / "98892001/CT5N"
    volume = table.read_volume(folder)
    assert [slice_.position for slice_ in volume.slices] == [-1.2375, 1.2625, 3.7625, 6.2625, 8.7625]
    assert volume.warnings == []


def test_files_without_preamble_and_suffix_are_a_series(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for file in write_series(tmp_path / "with", [0, 5, 10]).iterdir():
        bare = pydicom.Dataset(pydicom.dcmread(file))
        pydicom.dcmwrite(tmp_path / "bare" / file.stem, bare, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(table.read_volume(tmp_path / "bare").voxels, table.read_volume(tmp_path / "with").voxels)


def test_a_picture_is_a_volume_of_one(tmp_path: Path) -> None:
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "a.png")
    volume = table.read_volume(tmp_path / "a.png")
    np.testing.assert_allclose(volume.stored(np.stack([slice_.pixels for slice_ in volume.slices]))[:, :, 0].T * 255, PICTURE, rtol=1e-6)


def test_folders_without_dicom_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no DICOM slices in this folder"):
        table.read_volume(tmp_path)


def test_an_enhanced_file_that_places_only_some_frames(tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "a.dcm", np.stack([PICTURE + 1000 * index for index in range(4)]), [0, 5, 10, 15])
    dataset = pydicom.dcmread(file)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:2]
    dataset.save_as(file)
    volume = table.read_volume(file)
    assert volume.voxels.shape[2] == 4
    assert np.isfinite(volume.affine).all()


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID", "FrameOfReferenceUID"])
def test_one_series_uid_of_two_examinations_needs_a_choice(name: str, tmp_path: Path) -> None:
    for index in range(8):
        write(tmp_path / f"{index}.dcm", PICTURE, 5 * index, **{name: "1.2" if index < 4 else "1.3"})
    with pytest.raises(UserError, match=r"several series \(of 4, 4 slices\)"):
        table.read_volume(tmp_path)


def test_a_slice_of_another_scale_is_left_out_and_said(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / f"{index}.dcm", PICTURE, 5 * index, PixelSpacing=[1, 1] if index == 5 else [0.5, 0.75])
    volume = table.read_volume(tmp_path)
    assert volume.voxels.shape[2] == 5
    assert volume.warnings == ["only the longest of 2 series is used (5 slices)"]


@pytest.mark.parametrize("words", [["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], ["ORIGINAL", "PRIMARY", "P", "ND"]])
def test_maps_that_were_computed_from_images_are_no_slices(words: list[str], tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", PICTURE, Modality="MR", ImageType=words)
    with pytest.raises(OtherModality, match="a map or rendering"):
        table.read_slices(tmp_path / "a.dcm")
