"""DICOM: Hounsfield units to the digit, every plane seen alike, every syntax decoded, and not a word of the header let out."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from pipeline.formats import dicom_contrast, dicom_pixels, table
from pipeline.formats.slices import NotAxial, OtherModality, Unreadable
from tests.formats.dicom_files import AXIAL, SHIPPED, STORED, only, shipped, write, write_enhanced


def test_hounsfield_units(tmp_path: Path) -> None:
    one = only(write(tmp_path / "a.dcm", STORED, 12.5, RescaleIntercept=-1000, RescaleSlope=2))
    np.testing.assert_array_equal(one.pixels, STORED * 2.0 - 1000)
    assert (one.unit, one.modality, one.spacing, one.position, one.frame) == ("hu", "ct", (0.5, 0.75), 12.5, 0)
    assert one.pixels.dtype == np.float32


def test_a_ct_that_pydicom_ships() -> None:
    path = shipped("CT_small.dcm")
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(only(path).pixels, dataset.pixel_array.astype(float) + dataset.RescaleIntercept)


@pytest.mark.parametrize("kind", [np.int16, np.uint16])
def test_signed_and_unsigned_to_their_ends(kind: type, tmp_path: Path) -> None:
    stored = np.linspace([np.iinfo(kind).min], [np.iinfo(kind).max], 5, dtype=kind)  # an end far from all others would be no measurement
    np.testing.assert_array_equal(only(write(tmp_path / "a.dcm", stored)).pixels, stored.astype(float) - 1024)


def test_monochrome1_turns_grey_values_and_leaves_hounsfield_units(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 4095]], np.uint16)
    inverse = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    np.testing.assert_array_equal(only(write(tmp_path / "mr.dcm", stored, Modality="MR", **inverse)).pixels, [[4095, 3995, 0]])
    np.testing.assert_array_equal(only(write(tmp_path / "ct.dcm", stored, **inverse)).pixels, [[-1024, -924, 3071]])
    window = {"RescaleIntercept": 0, "RescaleType": "US", "WindowCenter": 2048, "WindowWidth": 4096}  # tags that change nothing
    assert only(write(tmp_path / "window.dcm", stored, **inverse, **window)).pixels.tolist()[0][::2] == [1, 0]


def test_ct_without_hounsfield_units_is_grey_in_its_window(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 150, 200, 300]], np.uint16)
    plain = {"RescaleIntercept": None, "RescaleSlope": None}
    one = only(write(tmp_path / "a.dcm", stored, **plain, WindowCenter=150.5, WindowWidth=101))
    np.testing.assert_allclose(one.pixels, [[0, 0, 0.5, 1, 1]])
    assert one.unit == "grey"


def test_padding_of_signed_pixels_that_was_stored_without_a_sign(tmp_path: Path) -> None:
    stored = STORED.copy()
    stored[0, 0] = -2000
    path = write(tmp_path / "a.dcm", stored)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(path)
    assert only(path).pixels[0, 0] == -1000
    assert only(path).pixels[0, 1] == 100 - 1024


def test_a_table_of_values_is_applied(tmp_path: Path) -> None:
    """Modality LUT in place of slope and intercept (PS3.3 C.11.1)."""
    lut = pydicom.Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [2000, 0, 16], "HU"
    lut.add_new("LUTData", "OW", (np.arange(2000) * 3).astype("<u2").tobytes())
    path = write(tmp_path / "a.dcm", STORED.astype(np.uint16), RescaleSlope=None, RescaleIntercept=None, ModalityLUTSequence=[lut])
    np.testing.assert_array_equal(dicom_pixels.read_slices(path)[0].pixels, STORED * 3)


def test_pixels_outside_of_the_scanned_circle_are_air(tmp_path: Path) -> None:
    stored = np.array([[-2000, 1024]], np.int16)
    np.testing.assert_array_equal(only(write(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)).pixels, [[-1000, 0]])
    mr = only(write(tmp_path / "b.dcm", np.array([[-32768, 5, 9]], np.int16), Modality="MR", PixelPaddingValue=-32768))
    np.testing.assert_array_equal(mr.pixels, [[5, 5, 9]])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("name", SHIPPED)
def test_lossless_syntaxes_give_the_same_values(syntax: str, name: str, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(shipped(name))
    dataset.compress(syntax)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(only(tmp_path / "a.dcm").pixels, only(shipped(name)).pixels)


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm"],
)
def test_shipped_encodings_of_one_picture(name: str) -> None:
    np.testing.assert_array_equal(only(shipped(name)).pixels, only(shipped("MR_small.dcm")).pixels)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("JPGExtended.dcm", 1),
        ("JPEG2000.dcm", 1),
        ("examples_ybr_color.dcm", 30),
        ("examples_palette.dcm", 1),
        ("examples_jpeg2k.dcm", 1),
    ],
)
def test_other_modalities_are_named_and_their_encodings_known(name: str, frames: int, tmp_path: Path) -> None:
    with pytest.raises(OtherModality, match="neither CT nor MR"):
        table.read_slices(shipped(name))
    dataset = pydicom.dcmread(shipped(name))
    dataset.Modality = "OT"
    dataset.save_as(tmp_path / "a.dcm")
    slices = table.read_slices(tmp_path / "a.dcm")
    assert len(slices) == frames
    assert all(one.pixels.shape == (dataset.Rows, dataset.Columns) and 0 <= one.pixels.min() < one.pixels.max() <= 1 for one in slices)


def test_multi_frame_keeps_the_stored_order(tmp_path: Path) -> None:
    stored = np.stack([STORED, STORED + 1, STORED + 2])
    slices = table.read_slices(write(tmp_path / "a.dcm", stored))
    assert [one.frame for one in slices] == [0, 1, 2]
    np.testing.assert_array_equal(np.stack([one.pixels for one in slices]), stored - 1024.0)


def test_enhanced_frames_have_a_place_and_scale_of_their_own(tmp_path: Path) -> None:
    stored = np.stack([STORED, STORED, STORED]).astype(np.uint16)
    slices = table.read_slices(write_enhanced(tmp_path / "a.dcm", stored, [10.0, 0.0, 5.0]))
    assert [one.position for one in slices] == [10, 0, 5]
    assert {(one.spacing, one.contrast, one.modality) for one in slices} == {((0.5, 0.75), "flair", "mr")}
    for index, one in enumerate(slices):
        np.testing.assert_array_equal(one.pixels, STORED * (index + 1.0))


# Row and column directions of the same head, lying differently in the file: however it was stored, it is seen alike.
TURNS = {
    "as seen": (AXIAL, lambda seen: seen),
    "feet first": ([-1, 0, 0, 0, 1, 0], lambda seen: seen[:, ::-1]),
    "upside down": ([1, 0, 0, 0, -1, 0], lambda seen: seen[::-1]),
    "transposed": ([0, 1, 0, 1, 0, 0], lambda seen: seen.T),
    "turned left": ([0, 1, 0, -1, 0, 0], lambda seen: seen.T[::-1]),
    "turned right": ([0, -1, 0, 1, 0, 0], lambda seen: seen.T[:, ::-1]),
    "tilted": ([0.99, 0.1, 0.1, -0.1, 0.95, 0.3], lambda seen: seen),
}


@pytest.mark.parametrize("turn", TURNS)
def test_every_axial_slice_is_seen_alike(turn: str, tmp_path: Path) -> None:
    orientation, stored = TURNS[turn]
    one = only(write(tmp_path / "a.dcm", np.ascontiguousarray(stored(STORED)), ImageOrientationPatient=list(orientation)))
    np.testing.assert_array_equal(one.pixels, STORED - 1024.0)
    assert one.spacing == ((0.75, 0.5) if turn in ("transposed", "turned left", "turned right") else (0.5, 0.75))


@pytest.mark.parametrize("orientation", [[0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]])
def test_other_planes_are_refused(orientation: list[float], tmp_path: Path) -> None:
    with pytest.raises(NotAxial, match="sagittal or coronal"):
        table.read_slices(write(tmp_path / "a.dcm", STORED, ImageOrientationPatient=orientation))


@pytest.mark.parametrize(("kind", "complaint"), [("LOCALIZER", "localizer"), ("MOSAIC", "mosaic")])
def test_localizers_and_mosaics_are_refused(kind: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=complaint):
        table.read_slices(write(tmp_path / "a.dcm", STORED, ImageType=["ORIGINAL", "PRIMARY", kind]))


def test_patients_are_keyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = [only(write(tmp_path / f"{name}.dcm", STORED, SeriesInstanceUID=f"1.{name}")).group_key for name in (1, 2)]
    other = only(write(tmp_path / "3.dcm", STORED, PatientID="another")).group_key
    assert same[0] == same[1] != other
    assert len(same[0]) == 16
    monkeypatch.setenv("CTMR_SALT", "another salt, another project")
    assert only(tmp_path / "1.dcm").group_key not in same


@pytest.mark.parametrize("stand_in", ["", "ANONYMOUS", "anon", "Test Patient", "0000", "None", "XXXX"])
def test_stand_ins_for_a_patient_do_not_tie_studies_together(stand_in: str, tmp_path: Path) -> None:
    keys = {only(write(tmp_path / f"{n}.dcm", STORED, PatientID=stand_in, StudyInstanceUID=f"1.2.{n}")).group_key for n in (1, 2)}
    assert len(keys) == 2


def test_slices_of_one_examination_without_a_study_stay_together(tmp_path: Path) -> None:
    """A converter gave each slice a series of its own; they lie in one frame of reference."""
    lost = {"PatientID": None, "StudyInstanceUID": None, "FrameOfReferenceUID": "1.2.3"}
    keys = {only(write(tmp_path / f"{n}.dcm", STORED, SeriesInstanceUID=f"1.2.{n}", **lost)).group_key for n in (1, 2)}
    assert len(keys) == 1


def test_numbered_pseudonyms_are_patients(tmp_path: Path) -> None:
    keys = {only(write(tmp_path / f"{n}.dcm", STORED, PatientID="anon17", StudyInstanceUID=f"1.2.{n}")).group_key for n in (1, 2)}
    assert len(keys) == 1


def test_not_a_word_of_the_header_is_let_out(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Neither by a slice nor by the error, warning or log of a damaged file."""
    secret = "Zyxwvut"
    sound = write(tmp_path / "a.dcm", STORED, SeriesDescription=f"T1 of {secret}", WindowCenterWidthExplanation=secret)
    shown = repr(only(sound))
    whole = sound.read_bytes()
    place = whole.index(b"RescaleIntercept") if b"RescaleIntercept" in whole else whole.index(b"-1024")
    for damaged in (whole[: len(whole) - 5], whole[:600], whole[:place] + b"Zyxwv" + whole[place + 5 :], whole[128:], whole[200:]):
        (tmp_path / "b.dcm").write_bytes(damaged)
        try:
            shown += repr(table.read_slices(tmp_path / "b.dcm"))
        except Unreadable as error:
            shown += f"{error} {error.__cause__} {error.__context__ if not error.__suppress_context__ else ''}"
    out = capfd.readouterr()
    assert not [word for word in (secret, "987654", "19371231", "Quentin", "Zyxwv") if word in shown + out.out + out.err + caplog.text]


@pytest.mark.parametrize(
    ("attributes", "contrast"),
    [
        ({"ScanningSequence": "SE", "RepetitionTime": 500, "EchoTime": 15}, "t1"),
        ({"ScanningSequence": "SE", "RepetitionTime": 4000, "EchoTime": 100}, "t2"),
        ({"ScanningSequence": "SE", "RepetitionTime": 2500, "EchoTime": 20}, "pd"),
        ({"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}, "flair"),
        ({"ScanningSequence": ["GR", "IR"], "RepetitionTime": 2000, "EchoTime": 3, "InversionTime": 900}, "t1"),
        ({"ScanningSequence": "GR", "RepetitionTime": 30, "EchoTime": 5, "FlipAngle": 30}, "t1"),
        ({"ScanningSequence": "GR", "RepetitionTime": 700, "EchoTime": 25, "FlipAngle": 20, "SeriesDescription": "ax SWI"}, ""),
        ({"ScanningSequence": ["EP", "SE"], "RepetitionTime": 8000, "EchoTime": 90}, ""),
        ({"AcquisitionContrast": "PROTON_DENSITY"}, "pd"),
        ({"SeriesDescription": "t2_tse_tra"}, "t2"),
        ({"SeriesDescription": "AX T2 FLAIR"}, "flair"),
        ({"SeriesDescription": "ep2d_diff_T2"}, ""),
        ({"SeriesDescription": "head"}, ""),
        ({}, ""),
    ],
)
def test_contrast_from_acquisition_times(attributes: dict[str, Any], contrast: str, tmp_path: Path) -> None:
    assert only(write(tmp_path / "a.dcm", STORED, Modality="MR", **attributes)).contrast == contrast
    assert dicom_contrast.stated_contrast(pydicom.dcmread(tmp_path / "a.dcm")) == contrast


def test_flair_by_the_inversion_time_of_an_enhanced_file(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", np.stack([STORED, STORED]).astype(np.uint16), [0.0, 5.0])
    dataset = pydicom.dcmread(path)
    del dataset.AcquisitionContrast
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for name, attributes in (
        ("MRTimingAndRelatedParametersSequence", {"RepetitionTime": 9000.0}),
        ("MREchoSequence", {"EffectiveEchoTime": 120.0}),
        ("MRModifierSequence", {"InversionRecovery": "YES", "InversionTimes": [2500.0]}),
    ):
        item = pydicom.Dataset()
        for key, value in attributes.items():
            setattr(item, key, value)
        setattr(shared, name, [item])
    dataset.save_as(path)
    assert {slice_.contrast for slice_ in table.read_slices(path)} == {"flair"}
    del shared.MRModifierSequence
    dataset.save_as(path)
    assert {slice_.contrast for slice_ in table.read_slices(path)} == {"t2"}
