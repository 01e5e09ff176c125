"""DICOM files that lack something, hold numbers that no picture has, or are damaged: one line that names what, or the right values."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from pipeline.formats import table
from pipeline.formats.slices import Truncated, Unreadable
from tests.formats.dicom_files import SHIPPED, STORED, only, shipped, write, write_enhanced


def test_a_file_without_the_header_that_the_standard_asks_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", STORED)
    dataset = pydicom.dcmread(path)
    bare = pydicom.dataset.Dataset(dataset)
    with (tmp_path / "b").open("wb") as file:
        pydicom.dcmwrite(file, bare, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(only(tmp_path / "b").pixels, only(path).pixels)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rtplan.dcm", "a plan of radiotherapy, no picture"),
        ("test-SR.dcm", "a structured report, no picture"),
        ("rtdose.dcm", "a dose of radiotherapy, neither CT nor MR"),
        ("dicomdirtests/DICOMDIR", "a DICOMDIR, which lists other files"),
        ("no_meta.dcm", "no PNG, JPEG,"),
    ],
)
def test_dicom_without_a_picture(name: str, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        table.read_slices(shipped(name))


@pytest.mark.parametrize("name", ["PixelRepresentation", "BitsStored", "BitsAllocated", "PhotometricInterpretation", "SamplesPerPixel"])
def test_a_missing_tag_is_named(name: str, tmp_path: Path) -> None:
    for read in (table.read_slices, table.read_volume):
        with pytest.raises(Unreadable, match=rf"{name} \(0028,01?0\w+\) is missing; without it the pixels cannot be read"):
            read(write(tmp_path / "a.dcm", STORED, **{name: None}))


@pytest.mark.parametrize("name", ["Rows", "Columns"])
def test_a_missing_side_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=rf"{name} \(0028,00\w\w\) is missing"):
        table.read_slices(write(tmp_path / "a.dcm", STORED, **{name: None}))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BitsStored", 0, "1 to 16"),
        ("BitsStored", 20, "1 to 16"),
        ("PixelRepresentation", 2, "0, 1"),
        ("BitsAllocated", 12, "1, 8, 16"),
        ("HighBit", 16, "15"),
    ],
)
def test_a_number_that_no_pixels_have_is_named_with_its_tag(name: str, value: int, expected: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=rf"{name} \(0028,\w+\) is {value}; expected {expected}"):
        table.read_slices(write(tmp_path / "a.dcm", STORED, **{name: value}))


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_dataset_without_file_header_is_read_in_the_order_it_was_written_in(implicit: bool, little: bool, tmp_path: Path) -> None:
    dataset = pydicom.Dataset(pydicom.dcmread(write(tmp_path / "a.dcm", STORED)))
    if not little:
        dataset.PixelData = STORED.astype(">i2").tobytes()
    pydicom.dcmwrite(tmp_path / "bare", dataset, implicit_vr=implicit, little_endian=little)
    np.testing.assert_array_equal(table.read_slices(tmp_path / "bare")[0].pixels, table.read_slices(tmp_path / "a.dcm")[0].pixels)


@pytest.mark.parametrize(
    ("name", "sound", "broken"),
    [
        ("RescaleSlope", b"1.25", b"1,25"),
        ("RescaleIntercept", b"-1024.5 ", b"-1024,5 "),
        ("PixelSpacing", b"0.5\\0.75", b"0,5\\0,75"),
        ("ImagePositionPatient", b"-100.5\\-120.0\\7.0", b"-100,5\\-120.0\\7.0"),
    ],
)
def test_a_decimal_comma_is_named_with_its_tag(name: str, sound: bytes, broken: bytes, tmp_path: Path) -> None:
    values = [float(part) for part in sound.decode().split("\\")]
    path = write(tmp_path / "a.dcm", STORED, **{name: values if len(values) > 1 else values[0]})
    content = path.read_bytes()
    assert sound in content
    path.write_bytes(content.replace(sound, broken))
    for read in (table.read_slices, table.read_volume):
        with pytest.raises(Unreadable, match=rf"{name} \(00\w\w,\w+\) (is no number|cannot be understood).*comma") as refusal:
            read(path)
        assert broken.decode().strip() not in str(refusal.value)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.98])
def test_truncated(share: float, tmp_path: Path) -> None:
    whole = shipped("CT_small.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Truncated):
        table.read_slices(tmp_path / "a.dcm")


@pytest.mark.parametrize("place", [70, 4000])
def test_damaged_run_lengths_are_one_error_and_nothing_else(place: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = pydicom.dcmread(shipped("CT_small.dcm"))
    dataset.compress(RLELossless)
    dataset.PixelData = dataset.PixelData[:place] + b"\x83" * 500 + dataset.PixelData[place + 500 :]
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(Unreadable, match="damaged"):
        table.read_slices(tmp_path / "a.dcm")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("count", [None, 1, 4])
def test_a_file_with_more_pictures_than_it_says_is_refused(count: int | None, tmp_path: Path) -> None:
    """The others were lost without a word."""
    path = write(tmp_path / "a.dcm", np.stack([STORED] * 6))
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames = count
    dataset.save_as(path)
    for read in (table.read_slices, table.read_volume):
        with pytest.raises(Unreadable, match=rf"holds 6 pictures, but NumberOfFrames \(0028,0008\) says {count or 1}"):
            read(path)


def test_functional_groups_for_more_frames_are_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", np.stack([STORED.astype(np.uint16)] * 3), [0.0, 5.0, 10.0])
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = list(dataset.PerFrameFunctionalGroupsSequence) * 2
    dataset.save_as(path)
    with pytest.raises(Unreadable, match=r"3 pictures by NumberOfFrames \(0028,0008\), 6 by its functional groups"):
        table.read_volume(path)


def test_sizes_that_no_file_can_hold(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="claims 60000 slices"):
        table.read_slices(write(tmp_path / "a.dcm", STORED, NumberOfFrames=60000, Rows=65535, Columns=65535))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from([*SHIPPED, "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"]))
def test_whatever_the_bytes_only_the_documented_error(data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(shipped(name).read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[place] = value
    path = tmp_path_factory.mktemp("any") / "a.dcm"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        slices = table.read_slices(path)
    except Unreadable:
        return
    assert all(one.pixels.ndim == 2 and np.isfinite(one.pixels).all() for one in slices)
