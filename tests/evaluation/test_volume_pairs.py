"""Pairs of volumes on the same grid, on different ones, shifted, apart: scored in millimetres or refused in one line."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.volume_pairs import APART, VolumePair, score_volume_pairs
from pipeline.formats.volume import Volume
from tests.formats.dicom_files import write

MM = 3.0  # voxels of the CT


def head(shift: float = 0.0, shape: tuple[int, int, int] = (64, 70, 66), size: float = MM, start: float = 0.0) -> np.ndarray:
    """HU of a ball of brain with ventricles in a skull, moved by `shift` mm along the first axis; the grid begins at `start` mm."""
    x, y, z = np.indices(shape) * size + start - np.array([96 + shift, 105, 99])[:, None, None, None]
    radius = np.sqrt(x**2 + y**2 + z**2)
    ct = np.where(radius < 85, -90.0, -1000.0)
    ct[radius < 80] = 1100
    ct[radius < 72] = 35
    ct[np.sqrt((x - 15) ** 2 + (y / 2) ** 2 + z**2) < 14] = 5
    return (ct + np.random.default_rng(0).uniform(-1, 1, shape)).astype(np.float32)


def as_mr(ct: np.ndarray) -> np.ndarray:
    """Fat bright, brain grey, fluid and bone dark."""
    mr = np.select([ct > 300, ct > 20, ct > -50, ct > -500], [20, 500, 250, 900], 5)
    return (mr + np.random.default_rng(1).uniform(0, 4, ct.shape)).astype(np.float32)


def save(file: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(voxels, np.diag([MM, MM, MM, 1]) if affine is None else affine), file)
    return file


def perfect(mr: Volume) -> np.ndarray:
    return np.select([mr.voxels > 800, mr.voxels > 400, mr.voxels > 200, mr.voxels > 10], [-90, 35, 5, 1100], -1000).astype(np.float32)


def score(ct: Path, mr: Path, translate: Callable[[Volume], np.ndarray] = perfect, **options: Path):
    translations = {"model": translate, "mean_picture": lambda volume: np.full_like(volume.voxels, -1000)}
    return score_volume_pairs([VolumePair("head", ct, mr, "patient", **options)], translations)


def test_a_perfect_translation_beats_bulk_densities(tmp_path: Path) -> None:
    ct = head()
    result = score(save(tmp_path / "ct.nii.gz", ct), save(tmp_path / "mr.nii.gz", as_mr(ct)))
    rows = result.rows.set_index("method")
    assert rows.loc["model", "volume_mae_hu"] < 1
    assert rows.loc["model", "bone_dice"] == 1
    assert 0 < rows.loc["water_and_bone", "volume_mae_hu"] < rows.loc["all_water", "volume_mae_hu"]
    assert rows.loc["all_water", "bone_dice"] == 0
    assert result.warnings == {}
    metrics = result.to_metrics()
    assert metrics["test"]["pairs"] == 1
    assert metrics["difference"]["all_water"]["volume_mae_hu_verdict"] == "too few patients to tell"


def test_an_mr_on_another_grid_is_laid_on_the_truth_in_millimetres(tmp_path: Path) -> None:
    finer = head(shape=(100, 108, 102), size=2.0)
    turned = np.diag([-2.0, 2.0, 2.0, 1.0])
    turned[0, 3] = 2.0 * 99  # the same places, stored from the other side
    mr = save(tmp_path / "mr.nii.gz", as_mr(finer)[::-1].copy(), turned)
    rows = score(save(tmp_path / "ct.nii.gz", head()), mr).rows.set_index("method")
    assert rows.loc["model", "volume_mae_hu"] < 0.2 * rows.loc["all_water", "volume_mae_hu"]
    assert rows.loc["model", "bone_dice"] > 0.85


def test_the_files_own_mask_counts(tmp_path: Path) -> None:
    ct = head()
    brain = (np.abs(ct - 35) < 2).astype(np.uint8)
    files = save(tmp_path / "ct.nii.gz", ct), save(tmp_path / "mr.nii.gz", as_mr(ct))
    mask = save(tmp_path / "mask.nii.gz", brain)
    rows = score(*files, lambda volume: perfect(volume) + 10, mask=mask).rows.set_index("method")
    assert rows.loc["all_water", "volume_mae_hu"] == pytest.approx(35, abs=0.1)
    assert rows.loc["model", "me_hu"] == pytest.approx(10, abs=0.1)


def test_a_misaligned_pair_is_scored_and_flagged(tmp_path: Path) -> None:
    result = score(save(tmp_path / "ct.nii.gz", head()), save(tmp_path / "mr.nii.gz", as_mr(head(shift=9.0))))
    assert result.warnings == {"head": "misaligned: the MR fits better when moved by 9 mm"}
    assert result.rows["volume_mae_hu"].notna().all()


@pytest.mark.parametrize("alike", [True, False])
def test_a_pair_of_two_frames_of_reference_is_scored_and_flagged(alike: bool, tmp_path: Path) -> None:
    size, shape = 6.0, (32, 35, 33)
    ct = head(shape=shape, size=size)
    for modality, voxels in (("CT", np.rint(ct) + 1024), ("MR", as_mr(ct))):
        place = {
            "PixelSpacing": [size, size],
            "Modality": modality,
            "FrameOfReferenceUID": "1.2.3" if alike or modality == "CT" else "1.2.4",
        }
        for k in range(shape[2]):
            plane = voxels[:, :, k].T.astype(np.uint16)
            write(tmp_path / f"{modality}/{k:02d}.dcm", plane, k * size, InstanceNumber=k, **place)
    result = score(tmp_path / "CT/00.dcm", tmp_path / "MR/00.dcm")
    assert result.rows["volume_mae_hu"].notna().all()
    assert result.warnings == ({} if alike else {"head": APART})


def test_pairs_that_cannot_be_scored_are_one_line(tmp_path: Path) -> None:
    ct = save(tmp_path / "ct.nii.gz", head())
    far = np.diag([MM, MM, MM, 1.0])
    far[:3, 3] = 1000
    with pytest.raises(UserError, match="do not overlap in millimetres; register them first"):
        score(ct, save(tmp_path / "far.nii.gz", as_mr(head()), far))
    with pytest.raises(UserError, match=r"head: the MR shows \d+% of the head in the CT, at least 50% are needed"):
        score(ct, save(tmp_path / "part.nii.gz", as_mr(head())[:, :, 50:]))
    with pytest.raises(UserError, match="differ in size"):
        score(ct, save(tmp_path / "mr.nii.gz", as_mr(head())), mask=save(tmp_path / "small.nii.gz", np.ones((9, 9, 9), np.uint8)))


def test_a_ct_that_is_a_picture_of_a_window_is_left_out_and_said(tmp_path: Path) -> None:
    window = np.rint(np.clip(head() / 80, 0, 1) * 255).astype(np.uint8)
    result = score(save(tmp_path / "ct.nii.gz", window), save(tmp_path / "mr.nii.gz", as_mr(head())))
    assert result.warnings == {"head": "left out: its CT is not in Hounsfield units"}
    assert result.to_metrics()["test"] == {"pairs": 0, "groups": 0}
