"""Whole heads, and the same ones stripped, defaced, cropped and with metal: what is wrong is named, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.formats import table
from pipeline.formats.volume import Volume
from pipeline.imaging.integrity import Fault, Findings, examine
from pipeline.imaging.prepare import find_outlines
from pipeline.phantom import SimulatedVolume, simulate_volume
from pipeline.phantom.tissues import Tissue

SPACING = (2.5, 2.5, 6.0)


@pytest.fixture(scope="module", params=[(30, "t1"), (11, "flair")], ids=["t1", "flair"])
def head(request: pytest.FixtureRequest) -> SimulatedVolume:
    """From the teeth to well above the vertex."""
    seed, contrast = request.param
    return simulate_volume(seed, SPACING, contrast=contrast, healthy=True, extent=(-106.0, 122.0))


def noisy(head: SimulatedVolume) -> np.ndarray:
    return np.float32(head.mr * 900 + np.random.default_rng(0).rayleigh(4, head.mr.shape))


def findings(voxels: np.ndarray, affine: np.ndarray, modality: str = "mr") -> Findings:
    volume = Volume(np.float32(voxels), affine, "hu" if modality == "ct" else "grey", "NIfTI", "head")
    return examine(volume.slices, find_outlines(volume.slices, modality), modality)


def eyes(head: SimulatedVolume) -> np.ndarray:
    return np.argwhere(head.labels == Tissue.VITREOUS).mean(axis=0)


def test_a_whole_head_has_no_fault(head: SimulatedVolume) -> None:
    assert findings(noisy(head), head.affine).faults == []


def test_noise_above_the_vertex_is_no_head(head: SimulatedVolume) -> None:
    volume = Volume(noisy(head), head.affine, "grey", "NIfTI", "head")
    topmost = max(find_outlines(volume.slices, "mr"))
    assert abs(topmost - int(np.flatnonzero(head.mask.any(axis=(0, 1)))[-1])) <= 1


def test_a_brain_without_skull_is_named(head: SimulatedVolume) -> None:
    brain = ndimage.binary_opening(np.isin(head.labels, [Tissue.GREY, Tissue.WHITE, Tissue.CSF]))
    pieces, _ = ndimage.label(brain)
    brain = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    brain = ndimage.binary_closing(np.pad(brain, 4), iterations=2)[4:-4, 4:-4, 4:-4]
    assert findings(np.where(brain, head.mr * 900, 0), head.affine).faults == [Fault.SKULL_STRIPPED]


def test_a_head_without_face_is_named(head: SimulatedVolume) -> None:
    """What lies in front of a plane from the brows downwards and backwards, as defacing programs cut it."""
    _, back, up = (np.indices(head.mr.shape) - eyes(head)[:, None, None, None]) * np.reshape(SPACING, (3, 1, 1, 1))
    face = (back < 10 - 0.6 * (up - 15)) & (up < 18)
    assert findings(np.where(face, 0, noisy(head)), head.affine).faults == [Fault.DEFACED]


def test_a_head_cut_by_the_field_of_view_is_named(head: SimulatedVolume) -> None:
    across = np.flatnonzero(head.mask.any(axis=(1, 2)))
    assert findings(noisy(head)[across[0] + 10 :], head.affine).faults == [Fault.CROPPED]
    assert Fault.CROPPED in findings(noisy(head)[:, :, : round(eyes(head)[2] + 60 / SPACING[2])], head.affine).faults


def test_metal_in_a_ct_is_named(head: SimulatedVolume) -> None:
    ct = head.ct.astype(np.float32)
    assert findings(ct, head.affine, "ct").faults == []
    middle = np.round(eyes(head) + np.array([0, 30, 14])).astype(int)
    ct[middle[0] : middle[0] + 2, middle[1] : middle[1] + 2, middle[2] - 6 : middle[2] + 2] = 3071
    assert findings(ct, head.affine, "ct").faults == [Fault.METAL]


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_a_frame_around_the_head_is_named(head: SimulatedVolume, modality: str) -> None:
    """Four posts of metal in CT; six rods of fluid of a localizer in MR."""
    space = ((14, 14), (14, 14), (0, 0))
    voxels = np.pad(head.ct.astype(np.float32), space, constant_values=-1000) if modality == "ct" else np.pad(noisy(head), space)
    across, back = (side / 2 for side in voxels.shape[:2])
    x, y, _ = np.indices(voxels.shape)
    count, radius, value = (4, 2.5, 3071) if modality == "ct" else (6, 1.5, 800)
    for angle in 2 * np.pi * np.arange(count) / count + 0.5:
        rod = np.hypot(x - across - (across - 5) * np.cos(angle), y - back - (back - 5) * np.sin(angle)) < radius
        voxels[rod] = value
    assert findings(voxels, head.affine, modality).faults == [Fault.FRAME]


@pytest.mark.real
@pytest.mark.parametrize(("folder", "modality"), [("mr_mprage_sagittal", "mr"), ("ct_head_tilted", "ct"), ("ct_phantom_study", "ct")])
def test_a_real_head_has_no_fault(folder: str, modality: str, real_volumes: Path) -> None:
    slices = table.read_volume(real_volumes / folder, modality).slices
    some = slices[:: max(1, len(slices) // 24)]
    assert examine(some, find_outlines(some, modality), modality).faults == []


def test_slices_below_the_teeth_are_found(head: SimulatedVolume) -> None:
    """A neck of twelve more slices under the head."""
    neck = np.repeat(noisy(head)[:, :, :1], 12, axis=2)
    affine = head.affine.copy()
    affine[2, 3] -= 12 * SPACING[2]
    whole, longer = findings(noisy(head), head.affine), findings(np.concatenate([neck, noisy(head)], axis=2), affine)
    assert longer.faults == whole.faults == []
    assert longer.below == list(range(len(longer.below)))
    assert 8 <= len(longer.below) <= 13
    assert len(whole.below) <= 1  # what the teacher draws is what models know


def test_single_slices_tell_nothing(head: SimulatedVolume) -> None:
    assert findings(noisy(head)[:, :, 20:24], head.affine) == Findings()
