"""FreeSurfer's MGZ: the affine that nibabel sees, in and out, whatever the file is called."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.freesurfer import MGHImage

from pipeline.formats import table
from pipeline.formats.slices import Truncated, Unreadable
from pipeline.formats.synthetic import Label, Synthetic

VALUES = np.random.default_rng(0).integers(0, 900, (4, 5, 6)).astype(np.int16)
AFFINE = np.array([[-0.9, 0, 0, 70], [0, 0, 1.1, -90], [0, -1.3, 0, 60], [0, 0, 0, 1.0]])  # as FreeSurfer conforms: coronal


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "brain"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_voxels_and_affine_are_those_of_nibabel(kind: type, name: str, tmp_path: Path) -> None:
    nibabel.save(MGHImage((VALUES % 250).astype(kind), AFFINE), tmp_path / "a.mgz")
    (tmp_path / "a.mgz").rename(tmp_path / name)
    volume = table.read_volume(tmp_path / name, "mr")
    np.testing.assert_allclose(volume.voxels, VALUES % 250 / (255 if kind is np.uint8 else 1), rtol=1e-6)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize("ending", [".mgz", ".mgh", ".nii", ".mha"])
def test_what_is_written_lies_in_the_same_place(ending: str, tmp_path: Path) -> None:
    nibabel.save(MGHImage(VALUES, AFFINE), tmp_path / "a.mgz")
    volume = table.read_volume(tmp_path / "a.mgz", "mr")
    synthetic = Synthetic(volume.voxels - 500, "hu", Label("mr-to-ct"), "", (40, 80))
    out = table.write(volume, synthetic, tmp_path / "a.mgz", tmp_path / f"b{ending}")
    again = table.read_volume(out)
    np.testing.assert_array_equal(again.voxels, VALUES - 500)
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-4)
    if ending != ".mha":
        np.testing.assert_allclose(nibabel.load(out).affine, AFFINE, atol=1e-4)


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    nibabel.save(MGHImage(VALUES, AFFINE), tmp_path / "a.mgz")
    volume = table.read_volume(tmp_path / "a.mgz", "mr")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct"), "", (40, 80))
    both = [table.write(volume, synthetic, tmp_path / "a.mgz", tmp_path / name).read_bytes() for name in ("b.mgz", "c.mgz")]
    assert both[0] == both[1]


def test_several_frames_are_refused(tmp_path: Path) -> None:
    nibabel.save(MGHImage(np.stack([VALUES, VALUES], axis=-1), AFFINE), tmp_path / "a.mgz")
    with pytest.raises(Unreadable, match="2 volumes in one file"):
        table.read_volume(tmp_path / "a.mgz")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_truncated(share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.mgz"
    nibabel.save(MGHImage(np.tile(VALUES, (4, 4, 4)), AFFINE), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(Truncated):
        table.read_volume(path)


def test_a_header_without_directions_is_said(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(np.ones((4, 5, 6), np.int16), np.eye(4)), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[28:30] = bytes(2)
    (tmp_path / "a.mgh").write_bytes(content)
    (said,) = table.read_volume(tmp_path / "a.mgh", "mr").warnings
    assert "tells no directions" in said
