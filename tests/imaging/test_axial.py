"""Oblique volumes resampled to the patient's axes and back, against SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.formats.volume import Volume
from pipeline.imaging.axial import TURNED, turn_of, view_axially

LPS = np.diag([-1.0, -1.0, 1.0])
SHAPE = (30, 26, 22)


def affine_of(degrees: float, spacing: tuple[float, float, float] = (2.0, 2.5, 3.0)) -> NDArray[np.float64]:
    """Sagittal storage (to the back, to the feet, to the left), turned about two of the patient's axes."""
    stored = np.array([[0, 0, -1], [-1, 0, 0], [0, -1, 0]], float)
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    nod, lean = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]), np.array([[cos, 0, sin / 2], [0, 1, 0], [-sin / 2, 0, cos]])
    turn, _ = np.linalg.qr(nod @ lean)
    affine = np.eye(4)
    affine[:3, :3] = turn * np.sign(np.diag(turn)) @ stored * spacing
    affine[:3, 3] = (12.0, -7.0, 31.0)
    return affine


def volume_of(affine: NDArray[np.float64], **facts: object) -> Volume:
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 1000, SHAPE), 3).astype(np.float32)
    return Volume(voxels, affine, "grey", "NIfTI", "head", **facts)


def as_itk(voxels: NDArray[np.float32], affine: NDArray[np.float64]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((LPS @ affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin((LPS @ affine[:3, 3]).tolist())
    return image


def resample(image: sitk.Image, onto: sitk.Image, outside: float) -> NDArray[np.float32]:
    return sitk.GetArrayFromImage(sitk.Resample(image, onto, sitk.Transform(), sitk.sitkLinear, outside)).transpose(2, 1, 0)


@pytest.mark.parametrize("degrees", [15, 40])
def test_an_oblique_volume_is_seen_along_the_axes_of_the_patient(degrees: float) -> None:
    volume = volume_of(affine_of(degrees))
    view = view_axially(volume)
    assert view.volume.affine is not None
    np.testing.assert_array_equal(view.volume.affine[:3, :3], np.diag(np.diag(view.volume.affine[:3, :3])))
    assert view.volume.voxel_size == (3.0, 2.0, 2.5)  # those of the stored axes that lie nearest
    corners = np.array(np.meshgrid(*[(0, side - 1) for side in SHAPE])).reshape(3, -1)
    inside = np.linalg.inv(view.volume.affine) @ np.vstack([volume.affine[:3, :3] @ corners + volume.affine[:3, 3:], np.ones(8)])
    assert (inside[:3] > -1e-6).all()
    assert (inside[:3].max(axis=1) <= np.array(view.volume.voxels.shape) - 1 + 1e-6).all()
    lowest = float(volume.voxels.min())
    expected = resample(as_itk(volume.voxels, volume.affine), as_itk(view.volume.voxels, view.volume.affine), lowest)
    # Both end half a voxel apart at the volume's faces.
    same = np.isclose(view.volume.voxels, expected, atol=0.05)
    deep = ndimage.binary_erosion(expected > lowest, iterations=2)
    assert same[deep].all()
    assert same.mean() > 0.85


def test_results_come_back_onto_the_voxels_of_the_source() -> None:
    volume = volume_of(affine_of(25))
    view = view_axially(volume)
    pictures = np.stack([slice_.pixels for slice_ in view.volume.slices])
    restored = view.restore(pictures)
    assert restored.shape == volume.voxels.shape
    expected = resample(as_itk(view.volume.voxels, view.volume.affine), as_itk(volume.voxels, volume.affine), -1000.0)
    np.testing.assert_allclose(restored, expected, atol=0.05)
    inner = (slice(2, -2),) * 3  # at the faces, what lies beyond is mixed in
    assert np.corrcoef(restored[inner].ravel(), volume.voxels[inner].ravel())[0, 1] > 0.95


def test_what_lies_along_the_axes_stays_as_stored() -> None:
    """Interpolation costs sharpness: little turns, thick tilted stacks and uneven planes are cut along their own planes."""
    tilted = np.array([[-1, 0, 0, 0], [0, -0.94, 0.34 * 5, 0], [0, 0.34, 0.94 * 5, 0], [0, 0, 0, 1.0]])
    nodding = np.array([[-1, 0, 0, 0], [0, -0.9, 0.43, 0], [0, 0.43, 0.9, 0], [0, 0, 0, 1.0]])
    for affine, facts in ((affine_of(TURNED - 3), {}), (tilted, {}), (nodding, {"offsets": tuple(np.arange(22) ** 1.1)})):
        view = view_axially(volume_of(affine, **facts))
        assert view.volume is view.source
        np.testing.assert_array_equal(view.restore(np.stack([slice_.pixels for slice_ in view.volume.slices])), view.source.voxels)


def test_turns_are_those_of_the_axis_that_is_turned_farthest() -> None:
    assert turn_of(np.diag([-1.0, -2.0, 3.0, 1.0])) == pytest.approx(0, abs=1e-6)
    angle = np.deg2rad(20)
    turned = np.array([[1, 0, 0, 0], [0, np.cos(angle), -np.sin(angle), 0], [0, np.sin(angle), np.cos(angle), 0], [0, 0, 0, 1]])
    assert turn_of(turned) == pytest.approx(20)
