"""NIfTI: any orientation, the same head; the values of the file; and back into the file's own voxel order."""

import gzip
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import table
from pipeline.formats.slices import NotAxial, Slice, Unreadable
from pipeline.formats.synthetic import Label, Synthetic

VALUES = np.random.default_rng(0).integers(-50, 1000, (4, 5, 6)).astype(np.int16)  # right, anterior, superior
SIZES = (1.0, 1.25, 3.0)
AXES = [a + b + c for a, b, c in itertools.product("RL", "AP", "SI") for a, b, c in itertools.permutations((a, b, c))]
SHIPPED = Path(nibabel.__file__).parent / "tests/data"


def volume(path: Path, values: np.ndarray, axes: str = "RAS") -> Path:
    """`values` (right, anterior, superior) of `SIZES` mm, stored along `axes`; voxel (0, 0, 0) at (-80, -100, -40) mm."""
    affine = np.diag([*SIZES, 1.0])
    affine[:3, 3] = -80, -100, -40
    image = nibabel.Nifti1Image(values, affine)
    turned = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(axes))
    nibabel.save(image.as_reoriented(turned), path)
    return path


def seen(values: np.ndarray) -> np.ndarray:
    """(slices from foot to head, front to back, right to left)"""
    return values[::-1, ::-1].transpose(2, 1, 0)


def pixels(slices: list[Slice]) -> np.ndarray:
    return np.stack([one.pixels for one in slices])


@pytest.mark.parametrize("axes", AXES)
def test_every_orientation_is_seen_alike_and_written_back_exactly(axes: str, tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii", VALUES, axes)
    slices = table.read_slices(path)
    np.testing.assert_array_equal(pixels(slices), seen(VALUES))
    assert [one.position for one in slices] == [-40, -37, -34, -31, -28, -25]
    assert {one.spacing for one in slices} == {(1.25, 1.0)}
    image = nibabel.load(path)
    np.testing.assert_array_equal(table.read_volume(path).stored(pixels(slices)), np.asanyarray(image.dataobj))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_scale_of_the_header_counts(suffix: str, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, np.eye(4))
    image.header.set_slope_inter(2, -7)
    nibabel.save(image, tmp_path / f"a{suffix}")
    raw = (gzip.decompress if suffix == ".nii.gz" else bytes)((tmp_path / f"a{suffix}").read_bytes())
    stored = np.frombuffer(raw[352:], np.int16).reshape(VALUES.shape, order="F")
    np.testing.assert_array_equal(pixels(table.read_slices(tmp_path / f"a{suffix}")), seen(stored * np.float32(2) - 7))


def test_air_at_minus_1000_means_hounsfield_units(tmp_path: Path) -> None:
    ct = np.full((16, 16, 16), -1000, np.int16)
    ct[3:13, 3:13, 3:13] = np.random.default_rng(0).normal(35, 8, (10, 10, 10))
    ct[3] = 900
    assert {(one.unit, one.modality) for one in table.read_slices(volume(tmp_path / "ct.nii", ct))} == {("hu", "ct")}
    assert {(one.unit, one.modality) for one in table.read_slices(volume(tmp_path / "mr.nii", VALUES))} == {("grey", "")}


def test_bytes_are_shares_of_their_range(tmp_path: Path) -> None:
    values = np.abs(VALUES).clip(0, 255).astype(np.uint8)
    np.testing.assert_allclose(pixels(table.read_slices(volume(tmp_path / "a.nii", values))), seen(values) / 255, rtol=1e-6)


def test_voxels_that_are_no_numbers_become_the_lowest(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[0, 0, 0], values[1, 1, 1] = np.nan, np.inf
    known = table.read_slices(volume(tmp_path / "a.nii", values))
    assert pixels(known).min() == VALUES.min()
    assert np.isfinite(pixels(known)).all()


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "resampled_anat_moved.nii", "reoriented_anat_moved.nii"])
def test_volumes_that_nibabel_ships(name: str) -> None:
    image = nibabel.load(SHIPPED / name)
    canonical = np.asanyarray(nibabel.as_closest_canonical(image).dataobj).astype(np.float32)
    canonical = np.where(np.isnan(canonical), np.nanmin(canonical), canonical)
    volume_ = table.read_volume(SHIPPED / name)
    shown = pixels(volume_.slices)
    np.testing.assert_allclose(shown * (255 if image.get_data_dtype() == np.uint8 else 1), seen(canonical), rtol=1e-6)
    assert volume_.stored(shown).shape == image.shape


def test_a_head_that_nilearn_ships() -> None:
    import importlib.util

    folder = Path(importlib.util.find_spec("nilearn").origin).parent / "datasets/data"  # type: ignore[union-attr,arg-type]
    slices = table.read_slices(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    assert len(slices) == 189
    assert {one.pixels.shape for one in slices} == {(233, 197)}
    middle = slices[100].pixels > 0.2
    front, back = middle[:117].any(axis=1).sum(), middle[117:].any(axis=1).sum()
    assert middle.any(axis=0).sum() < front + back  # a head is longer than wide, and lies upright


@pytest.mark.parametrize("name", ["example4d.nii.gz", "functional.nii", "example_nifti2.nii.gz"])
def test_four_dimensions_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(Unreadable, match=r"4 dimensions \(.*split it into volumes of three"):
        table.read_slices(SHIPPED / name)


def test_a_fourth_dimension_of_one_is_none(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VALUES[..., np.newaxis], np.eye(4)), tmp_path / "a.nii")
    volume_ = table.read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(pixels(volume_.slices), seen(VALUES))
    assert volume_.stored(pixels(volume_.slices)).shape == (4, 5, 6)


def test_thick_sagittal_slices_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VALUES, np.diag([5, 1, 1, 1])), tmp_path / "a.nii")
    with pytest.raises(NotAxial, match=r"slices 5 mm apart; axial slices are made of steps of at most 3 mm"):
        table.read_slices(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
def test_truncated(share: float, suffix: str, tmp_path: Path) -> None:
    path = volume(tmp_path / f"a{suffix}", np.tile(VALUES, (8, 8, 8)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(Unreadable, match=r"ends too early|shorter than its header|empty file|no NIfTI volume"):
        table.read_slices(path)


def test_a_small_file_that_claims_a_huge_volume(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((700, 700, 700))
    header.set_data_dtype(np.uint8)
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(100)))
    with pytest.raises(Unreadable, match="no scan is packed that well"):
        table.read_slices(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("kind", ["colours", "complex", "singular"])
def test_what_is_no_head(kind: str, tmp_path: Path) -> None:
    colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    values = {"colours": np.zeros((3, 3, 3), colours), "complex": np.zeros((3, 3, 3), np.complex64), "singular": VALUES}[kind]
    image = nibabel.Nifti1Image(values, np.eye(4))
    if kind == "singular":
        image.header["sform_code"], image.header["qform_code"] = 1, 0
        image.header["srow_x"] = image.header["srow_y"] = image.header["srow_z"] = 0
        (tmp_path / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + values.tobytes())
    else:
        nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(Unreadable, match=r"voxels of type|affine"):
        table.read_slices(tmp_path / "a.nii")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".nii", ".nii.gz"]))
def test_whatever_the_bytes_only_the_documented_error(data: st.DataObject, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = volume(tmp_path_factory.mktemp("any") / f"a{suffix}", VALUES)
    content = bytearray(path.read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[place] = value
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        slices = table.read_slices(path)
    except Unreadable:
        return
    assert all(np.isfinite(one.pixels).all() for one in slices)


@pytest.mark.parametrize(("name", "number"), [("vox_offset", np.inf), ("vox_offset", np.nan), ("scl_inter", np.inf), ("scl_inter", np.nan)])
def test_numbers_of_a_header_that_cannot_be_are_one_line(name: str, number: float, tmp_path: Path) -> None:
    file = volume(tmp_path / "a.nii", VALUES)
    content = bytearray(file.read_bytes())
    header = np.ndarray((), nibabel.Nifti1Header.template_dtype, buffer=content)
    header["scl_slope"], header[name] = 1, number
    file.write_bytes(content)
    with pytest.raises(Unreadable, match="a header with numbers that cannot be"):
        table.read_slices(file, "ct")


def test_a_header_without_directions_or_with_two_is_said(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, np.diag([1, 1, 2, 1]))
    assert _said(image, tmp_path) == []
    image.header["qform_code"], image.header["sform_code"] = 1, 1
    image.header["srow_x"] *= -1
    assert _said(image, tmp_path) == ["its header tells directions twice and not alike; those of sform were taken, not those of qform"]
    image.header["qform_code"] = image.header["sform_code"] = 0
    (said,) = _said(image, tmp_path)
    assert "tells no directions" in said


def _said(image: nibabel.Nifti1Image, folder: Path) -> list[str]:
    (folder / "a.nii").write_bytes(image.header.binaryblock + bytes(4) + VALUES.tobytes(order="F"))
    return table.read_volume(folder / "a.nii", "mr").warnings


@pytest.mark.parametrize("size", [0, np.nan])
def test_a_header_that_does_not_tell_the_size_of_a_voxel_is_refused(size: float, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, np.diag([1, 1, 2, 1]))
    image.header["sform_code"], image.header["qform_code"] = 0, 1
    image.header["pixdim"][2] = size
    with pytest.raises(Unreadable, match=r"does not tell the size of a voxel \(pixdim\)"):
        _said(image, tmp_path)


def test_nothing_of_a_header_but_the_geometry_is_written(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, np.diag([1, 1, 2, 1]))
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[name] = b"Doe^Jane"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Doe^Jane"))
    nibabel.save(image, tmp_path / "a.nii")
    volume = table.read_volume(tmp_path / "a.nii", "mr")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct", "3", "abc"), "", (40, 80))
    table.write(volume, synthetic, tmp_path / "a.nii", tmp_path / "b.nii")
    assert b"Doe" not in (tmp_path / "b.nii").read_bytes()
    np.testing.assert_array_equal(nibabel.load(tmp_path / "b.nii").affine, image.affine)
