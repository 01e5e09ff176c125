"""What the numbers of a CT mean, whatever wrote them: recognised and said, or refused in one line."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.formats import table
from pipeline.formats.slices import OtherModality, UnknownValues
from pipeline.phantom import simulate_subject
from tests.formats.dicom_files import write

HEADS = simulate_subject(5, [0.45, 0.55, 0.65], size=128, contrast="t1")
CT = np.stack([head.ct for head in HEADS]).round() + np.random.default_rng(0).normal(0, 3, (3, 128, 128)).round()
MR = np.stack([head.mr for head in HEADS]) * 1500
INSIDE = ndimage.binary_erosion(np.stack([head.ct for head in HEADS]) > -200, np.ones((1, 3, 3)), iterations=2)


def volume(path: Path, slices: NDArray, kind: type) -> Path:
    """`slices` (N, H, W) as a NIfTI volume of numbers of type `kind`."""
    nibabel.save(nibabel.Nifti1Image(slices.transpose(2, 1, 0).astype(kind), np.diag([-2, -2, 5, 1])), path)
    return path


def read(path: Path, modality: str = "ct", **how: str) -> tuple[NDArray, list[str]]:
    """(slices (N, H, W), what was said), once they are in Hounsfield units for CT."""
    found = table.read_volume(path, modality, **how)
    assert found.unit == ("hu" if modality == "ct" else "grey")
    return np.stack([slice_.pixels for slice_ in found.slices]), found.warnings


def test_hounsfield_units_stay(tmp_path: Path) -> None:
    values, said = read(volume(tmp_path / "a.nii", CT, np.int16))
    np.testing.assert_array_equal(values, CT)
    assert said == []


@pytest.mark.parametrize(("offset", "kind"), [(1024, np.uint16), (1024, np.float32), (32768, np.uint16), (1000, np.int16)])
def test_an_offset_is_taken_off_and_said(offset: int, kind: type, tmp_path: Path) -> None:
    values, said = read(volume(tmp_path / "a.nii", CT + offset, kind))
    np.testing.assert_array_equal(values, CT)
    assert said == [f"values are Hounsfield units plus {offset}, which was taken off"]


@pytest.mark.parametrize("offset", [1000, 1024])
def test_an_offset_is_known_by_brain_where_all_air_was_cut_off_at_0(offset: int, tmp_path: Path) -> None:
    kept = (CT + offset).clip(0)
    values, said = read(volume(tmp_path / "a.nii", np.where(CT > -300, kept, 0), np.uint16))
    np.testing.assert_array_equal(values[CT > -300], CT[CT > -300])
    assert said == [f"values are Hounsfield units plus {offset}, which was taken off"]


@pytest.mark.parametrize("kind", ["nifti", "png", "dicom"])
def test_negative_numbers_that_were_stored_without_a_sign(kind: str, tmp_path: Path) -> None:
    """-1000 reads 64536 where a program takes numbers of 16 bits with a sign for such without."""
    stored = CT.astype(np.int16).view(np.uint16)
    if kind == "nifti":
        values, said = read(volume(tmp_path / "a.nii", stored, np.uint16))
        np.testing.assert_array_equal(values, CT)
    elif kind == "png":
        Image.fromarray(stored[1]).save(tmp_path / "a.png")
        values, said = read(tmp_path / "a.png")
        np.testing.assert_array_equal(values[0], CT[1])
    else:
        values, said = read(write(tmp_path / "a.dcm", stored[1], RescaleIntercept=0, RescaleSlope=1))
        np.testing.assert_array_equal(values[0], CT[1])
    assert said == ["numbers from 32768 on were read as negative ones"]


def test_hounsfield_units_divided_by_1000_are_known(tmp_path: Path) -> None:
    values, said = read(volume(tmp_path / "a.nii", CT / 1000, np.float32))
    np.testing.assert_allclose(values, CT, atol=0.01)
    assert said == ["values are Hounsfield units divided by 1000, and were multiplied"]


def test_a_16_bit_picture_at_32768(tmp_path: Path) -> None:
    Image.fromarray((CT[1] + 32768).astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[0][0], CT[1])


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_a_tiff_in_hounsfield_units(kind: type, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", CT[1].astype(kind))
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0][0], CT[1])


def test_a_background_of_water_is_air_but_water_inside_the_head_stays(tmp_path: Path) -> None:
    masked = np.where(INSIDE, np.where(np.abs(CT) < 3, 0, CT), 0)
    values, said = read(volume(tmp_path / "a.nii", masked, np.int16))
    assert (values[0, :5] == -1000).all()
    np.testing.assert_array_equal(values[INSIDE], masked[INSIDE])
    assert said == ["the background of 0 HU was taken for air"]


def test_a_ct_cut_off_at_0(tmp_path: Path) -> None:
    values, _ = read(volume(tmp_path / "a.nii", CT.clip(0), np.uint16))
    assert (values[:, :5] == -1000).all()
    bright = CT > 10
    np.testing.assert_array_equal(values[bright], CT[bright])


DICOM = {
    "signed, without rescaling": (CT[1].astype(np.int16), {"RescaleIntercept": None, "RescaleSlope": None}),
    "unsigned, without rescaling": ((CT[1] + 1024).astype(np.uint16), {"RescaleIntercept": None, "RescaleSlope": None}),
    "rescaled, of type US": ((CT[1] + 1024).astype(np.uint16), {"RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "US"}),
    "rescaled twice": (CT[1].astype(np.int16), {"RescaleIntercept": -1024, "RescaleSlope": 1}),
    "rescaling lost": ((CT[1] + 1024).astype(np.uint16), {"RescaleIntercept": 0, "RescaleSlope": 1}),
}


@pytest.mark.parametrize("kind", DICOM)
def test_dicom_whatever_its_tags_say(kind: str, tmp_path: Path) -> None:
    stored, tags = DICOM[kind]
    np.testing.assert_array_equal(read(write(tmp_path / "a.dcm", stored, **tags))[0][0], CT[1])
    (alone,) = table.read_slices(tmp_path / "a.dcm", "ct")
    assert alone.unit == "hu"
    np.testing.assert_array_equal(alone.pixels, CT[1])


def test_a_ct_shown_in_a_window_is_grey_by_that_window(tmp_path: Path) -> None:
    shown = np.rint(np.clip(CT[1] / 80, 0, 1) * 255).astype(np.uint16)
    tags = {"RescaleIntercept": None, "RescaleSlope": None, "WindowCenter": 128, "WindowWidth": 256}
    (slice_,) = table.read_slices(write(tmp_path / "a.dcm", shown, **tags), "ct")
    assert slice_.unit == "grey"
    np.testing.assert_allclose(slice_.pixels, shown / 255, atol=0.01)


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_a_16_bit_picture_has_the_white_of_its_bits(white: int, tmp_path: Path) -> None:
    """12-bit values in 16 bits are not a blank picture."""
    shown = np.clip(CT[1] / 80, 0, 1)
    Image.fromarray(np.rint(shown * white).astype(np.uint16)).save(tmp_path / "a.png")
    (slice_,) = table.read_slices(tmp_path / "a.png", "ct")
    assert slice_.unit == "grey"
    np.testing.assert_allclose(slice_.pixels, shown, atol=0.003)


WHOLE_RANGES = [(1 / 4095, 1024 / 4095), (1 / 1500, -1 / 3), (0.19e-3, 0.19)]  # as 0 to 1, as -1 to 1, attenuation in 1/cm


@pytest.mark.parametrize(("factor", "shift"), [(1000, 0), (0.05, 3000), (1, 500), (0.002, 0), (0.0025, -1.3), *WHOLE_RANGES])
def test_what_cannot_be_hounsfield_units_is_one_line_that_says_what_to_do(factor: float, shift: float, tmp_path: Path) -> None:
    with pytest.raises(UnknownValues) as refusal:
        read(volume(tmp_path / "a.nii", CT * factor + shift, np.float32))
    line = str(refusal.value)
    assert line.startswith(f"{tmp_path}/a.nii: values from ")
    assert "--ct-values hu, offset-1024 or grey" in line
    assert "\n" not in line


@pytest.mark.parametrize(("low", "high"), [(-1000, 1000), (-1000, 2000), (-500, 1300)])
@pytest.mark.parametrize("white", [1, 255, 4095, 65535])
def test_a_whole_range_that_was_brought_to_that_of_a_picture_is_no_window(low: float, high: float, white: float, tmp_path: Path) -> None:
    """Bone that ends at white does not make a window of it: brain and fluid are of one grey."""
    scaled = np.rint((np.clip(CT, low, high) - low) / (high - low) * white * 1000) / 1000
    with pytest.raises(UnknownValues):
        read(volume(tmp_path / "a.nii", scaled, np.float32))


def test_bone_that_was_cut_off_is_said(tmp_path: Path) -> None:
    for kind, factor in ((np.int16, 1), (np.float32, 0.001)):
        slices, said = read(volume(tmp_path / "a.nii", np.clip(CT, -1000, 400) * factor, kind))
        np.testing.assert_allclose(slices, np.clip(CT, -1000, 400), atol=0.1)
        assert "no value is above 400 HU, where many lie: what is denser was cut off, bone too" in "; ".join(said)
    assert read(volume(tmp_path / "b.nii", CT, np.int16))[1] == []


@pytest.mark.parametrize("number", [-3e38, -1e20, -1.0])
def test_one_negative_number_everywhere_is_no_head(number: float, tmp_path: Path) -> None:
    with pytest.raises(UnknownValues, match="values from"):
        read(volume(tmp_path / "a.nii", np.full_like(CT, number), np.float32))


@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (-1000, 2000), (-1000, 400)])
def test_a_range_that_was_brought_to_minus_1_to_1_is_no_thousandth_of_hounsfield_units(low: float, high: float, tmp_path: Path) -> None:
    """As networks are fed: air lies near -1 in each of them, and brain not near 0, where bone of 1000 HU may lie."""
    with pytest.raises(UnknownValues):
        read(volume(tmp_path / "a.nii", (CT.clip(low, min(high, 1000)) - low) / (high - low) * 2 - 1, np.float32))


def test_a_sign_that_was_lost_in_32_bits_comes_back(tmp_path: Path) -> None:
    """Where it cannot come back, since the numbers went through float32, they are no white of a picture."""
    values, _ = read(volume(tmp_path / "a.nii", CT.astype(np.int32).view(np.uint32), np.uint32))
    np.testing.assert_array_equal(values, CT)
    with pytest.raises(UnknownValues):
        read(volume(tmp_path / "b.nii", CT.astype(np.int32).view(np.uint32), np.float32))


def test_a_bright_circle_around_the_scan_is_no_bone(tmp_path: Path) -> None:
    row, column = np.ogrid[-64:64, -64:64]
    circle = row**2 + column**2 > 60**2
    values, said = read(volume(tmp_path / "a.nii", np.where(circle, 3071, CT), np.int16))
    np.testing.assert_array_equal(values, np.where(circle, -1000, CT))
    assert said == ["the background of 3071 HU was taken for air"]


def test_slices_whose_header_forgot_the_offset_are_not_mixed_with_others(tmp_path: Path) -> None:
    for k, intercept in enumerate([-1024, 0, -1024]):
        write(tmp_path / "series" / f"{k}.dcm", (CT[k] + 1024).astype(np.uint16), 5.0 * k, RescaleIntercept=intercept)
    with pytest.raises(UnknownValues, match="1 of 3 slices are Hounsfield units plus 1024 and the others are not"):
        read(tmp_path / "series")


def test_tags_that_make_air_of_a_head_are_not_believed(tmp_path: Path) -> None:
    with pytest.raises(UnknownValues, match="values from -9"):
        read(write(tmp_path / "a.dcm", CT[1].astype(np.int16), RescaleIntercept=-8192, RescaleSlope=1))


def test_an_mr_is_no_ct(tmp_path: Path) -> None:
    with pytest.raises(UnknownValues):
        read(volume(tmp_path / "a.nii", MR, np.int16))


def test_the_user_may_say_what_the_values_are(tmp_path: Path) -> None:
    odd = volume(tmp_path / "a.nii", CT * 3, np.int16)
    np.testing.assert_array_equal(read(odd, ct_values="hu")[0], CT * 3)
    np.testing.assert_array_equal(read(odd, ct_values="offset-1024")[0], CT * 3 - 1024)
    grey = table.read_volume(odd, "ct", ct_values="grey")
    assert (grey.unit, grey.voxels.min(), grey.voxels.max()) == ("grey", 0, 1)


def test_an_mr_whose_background_is_minus_1000_is_an_mr(tmp_path: Path) -> None:
    filled = np.where(MR > 60, MR, -1000).astype(np.int16)
    values, said = read(volume(tmp_path / "a.nii", filled, np.int16), "mr")
    assert table.read_volume(tmp_path / "a.nii", "mr").modality == ""
    np.testing.assert_array_equal(values[MR > 61], filled[MR > 61])
    assert values.min() == filled[filled > -1000].min()
    assert said == [f"the background of -1000 was taken for {values.min():g}"]


def test_a_background_of_0_in_a_head_of_mean_0_is_no_tissue(tmp_path: Path) -> None:
    """As data sets for segmentation have MR: the head alone is brought to mean 0 and deviation 1."""
    inside = np.abs(ndimage.gaussian_filter(CT, (0, 1, 1)) + 1000) > 300
    scaled = np.where(inside, (MR - MR[inside].mean()) / MR[inside].std(), 0).astype(np.float32)
    values, said = read(volume(tmp_path / "a.nii", scaled, np.float32), "mr")
    assert values[0, 0, 0] == values[:, :3].max() < np.percentile(scaled[inside], 5)
    np.testing.assert_array_equal(values[INSIDE], scaled[INSIDE])
    assert [line.split(" and ")[0] for line in said] == ["the background of 0 is brighter than parts of the head"]


def test_a_ct_whose_header_says_mr_is_called_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", (CT[1] + 1024).astype(np.uint16), Modality="MR", RescaleIntercept=-1024, RescaleSlope=1)
    (slice_,) = table.read_slices(path, "mr")
    assert (slice_.modality, slice_.unit) == ("ct", "hu")
    assert table.read_volume(path, "mr").modality == "ct"


def test_a_ct_among_mr_is_called_one(tmp_path: Path) -> None:
    found = table.read_volume(volume(tmp_path / "a.nii", CT, np.int16), "mr")
    assert (found.modality, found.unit) == ("ct", "hu")


@pytest.mark.parametrize("modality", ["ct", "mr"])
@pytest.mark.parametrize("kind", ["mask", "labels", "png"])
def test_masks_and_label_maps_are_set_aside(kind: str, modality: str, tmp_path: Path) -> None:
    labels = np.digitize(ndimage.gaussian_filter(CT, (0, 3, 3)), np.arange(-600, 600, 40))
    if kind == "png":
        path = tmp_path / "a.png"
        Image.fromarray((CT[1] > 0).astype(np.uint8) * 255).save(path)
    else:
        path = volume(tmp_path / "a.nii", labels if kind == "labels" else CT > 0, np.int16)
    with pytest.raises(OtherModality, match="a mask or label map"):
        table.read_volume(path, modality)


@pytest.mark.real
@pytest.mark.parametrize("offset", [0, 1024, 32768])
def test_a_real_head_is_understood_as_a_whole_and_slice_by_slice(offset: int, real_ct: NDArray, tmp_path: Path) -> None:
    """A tilted head from the base to the vertex. Of the four highest slices, mostly bone, only the whole can tell."""
    values, _ = read(volume(tmp_path / "a.nii", real_ct + offset, np.float32))
    np.testing.assert_array_equal(values, real_ct)
    for number, slice_ in enumerate(real_ct[:24]):
        tifffile.imwrite(tmp_path / f"{number}.tif", (slice_ + offset).astype(np.float32))
        np.testing.assert_array_equal(read(tmp_path / f"{number}.tif")[0][0], slice_)


@pytest.mark.real
def test_a_real_mr_is_no_ct_at_any_brightness(real_volumes: Path, tmp_path: Path) -> None:
    mr = table.read_volume(real_volumes / "mr_mprage_sagittal", "mr")
    assert (mr.modality, mr.contrast, mr.unit) == ("mr", "t1", "grey")
    for gain in (0.3, 0.5, 1, 2):
        with pytest.raises(UnknownValues):
            table.read_volume(volume(tmp_path / "a.nii", mr.voxels.transpose(2, 1, 0)[::4] * gain, np.int16), "ct")


@pytest.mark.parametrize("fill", [-32768, -3.4e38, 3.4e38, 32767])
@pytest.mark.parametrize(("modality", "kind"), [("ct", "nii"), ("mr", "nii"), ("mr", "tif")])
def test_the_end_of_a_type_says_that_nothing_was_measured(fill: float, modality: str, kind: str, tmp_path: Path) -> None:
    measured = CT if modality == "ct" else MR
    slices = measured.copy()
    slices[:, :, :4] = fill
    if kind == "nii":
        values, _ = read(volume(tmp_path / "a.nii", slices, np.float32), modality)
    else:
        tifffile.imwrite(tmp_path / "a.tif", slices.astype(np.float32), photometric="minisblack")
        values, _ = read(tmp_path / "a.tif", modality)
    np.testing.assert_allclose(values[:, :, 4:], measured[:, :, 4:], rtol=1e-6)
    assert (values[:, :, :4] == measured[:, :, 4:].min()).all()


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1])
def test_mr_means_the_same_at_any_scale(factor: float, tmp_path: Path) -> None:
    values, _ = read(volume(tmp_path / "a.nii", MR / MR.max() * factor, np.float32), "mr")
    np.testing.assert_allclose(values, MR / MR.max() * 1000, rtol=1e-5)
