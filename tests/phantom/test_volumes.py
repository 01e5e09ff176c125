"""Whole simulated heads: air, skull and brain measure what they measure in real ones, and the grid is in millimetres."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.phantom import SimulatedVolume, simulate_volume
from pipeline.phantom.tissues import Tissue


@pytest.fixture(scope="module", params=[7, 30])
def volume(request: pytest.FixtureRequest) -> SimulatedVolume:
    return simulate_volume(request.param, (2.0, 2.0, 4.0), contrast="t1", healthy=True)


def test_tissues_measure_what_they_measure_in_real_heads(volume: SimulatedVolume) -> None:
    assert (volume.ct_truth[~volume.mask] == -1000).all()
    brain = (volume.labels == Tissue.GREY) | (volume.labels == Tissue.WHITE)
    assert 25 < np.median(volume.ct[ndimage.binary_erosion(brain)]) < 45
    hollow = ndimage.binary_erosion((volume.labels == Tissue.AIR) & volume.mask)
    assert hollow.any()
    assert np.median(volume.ct_truth[hollow]) < -800
    assert volume.ct.dtype == np.int16
    assert 0 <= volume.mr.min() < volume.mr.max() <= 1


def test_the_skull_is_closed_and_as_thick_and_hard_as_bone(volume: SimulatedVolume) -> None:
    """Rays in axial planes of the upper half from the middle of the head outwards."""
    rays, peaks, thickness = 0, [], []
    middle = np.argwhere(volume.mask).mean(0)
    for z in range(int(middle[2]), int(middle[2]) + 12):
        for turn in np.linspace(0, 2 * np.pi, 24, endpoint=False):
            along = np.arange(0, 120, 0.5)
            at = middle[:2, None] + along / 2.0 * np.array([[np.cos(turn)], [np.sin(turn)]])
            profile = ndimage.map_coordinates(volume.ct_truth[..., z].astype(float), at, order=1, mode="nearest")
            rays += 1
            if profile.max() > 300:
                peaks.append(profile.max())
                thickness.append(0.5 * (profile > 300).sum())
    assert len(peaks) >= 0.97 * rays
    assert 700 < np.median(peaks) < 1900
    assert 3 < np.median(thickness) < 12


def test_the_affine_is_in_millimetres_and_upright(volume: SimulatedVolume) -> None:
    np.testing.assert_allclose(np.abs(np.diag(volume.affine)[:3]), volume.spacing)
    eyes = np.argwhere(volume.labels == Tissue.VITREOUS).mean(0)
    head = np.argwhere(volume.mask).mean(0)
    right, front, up = (volume.affine[:3, :3] @ (eyes - head)).tolist()
    assert front > 30  # NIfTI: y to the front
    assert abs(right) < 15
    assert up < 0
    width, length, _ = np.ptp(np.argwhere(volume.mask), axis=0) * np.array(volume.spacing)
    assert 120 < width < 200
    assert 150 < length < 240


def test_the_same_head_at_another_spacing() -> None:
    """Truth in millimetres does not depend on the grid."""
    extent = (0.0, 40.0)
    fine, coarse = (simulate_volume(3, spacing, contrast="t2", extent=extent) for spacing in ((1.5, 1.5, 5.0), (3.0, 3.0, 5.0)))
    means = [volume.mask.sum() * np.prod(volume.spacing) for volume in (fine, coarse)]
    assert means[0] == pytest.approx(means[1], rel=0.03)
    small = fine.ct_truth.reshape(fine.ct.shape[0] // 2, 2, fine.ct.shape[1] // 2, 2, -1).mean((1, 3))
    assert np.corrcoef(small.ravel(), coarse.ct_truth.ravel())[0, 1] > 0.97


def test_neighbouring_planes_fit_together() -> None:
    """From plane to plane it changes no more than within planes: nothing flickers, however low the planes lie."""
    volume = simulate_volume(7, (2.0, 2.0, 2.0), contrast="t1", extent=(-90.0, 20.0), healthy=True)
    inside = ndimage.binary_erosion(volume.mask, iterations=2)
    within, between = (np.abs(np.diff(volume.mr_truth, axis=axis)) for axis in (1, 2))
    assert between[inside[..., 1:]].mean() < 1.1 * within[inside[:, 1:]].mean()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="x and y must be alike"):
        simulate_volume(1, (1.0, 2.0, 1.0))
    with pytest.raises(ValueError, match="expected one of t1"):
        simulate_volume(1, contrast="dwi")
