"""Pairs of volumes: each slice has its truth at its own place in the patient, whatever the grids are."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.dataset import manifest, prepare_slices, slice_arrays
from pipeline.dataset.partners import Partner, find_known
from pipeline.dataset.slices_contract import REGISTERED
from pipeline.errors import UserError
from pipeline.formats.table import read_volume
from pipeline.imaging.head import Box
from pipeline.imaging.regrid import onto_grid, same_grid
from pipeline.params import load
from pipeline.phantom import SimulatedVolume, simulate_volume
from pipeline.sources.table import download

PARAMS = load(Path(__file__).parents[2] / paths.PARAMS)
FINE, COARSE = (3.0, 3.0, 5.0), (4.0, 4.0, 7.0)


def head(spacing: tuple[float, float, float], lowest: float, highest: float) -> SimulatedVolume:
    """One and the same head, its planes from `lowest` to `highest` millimetres, where they lie in the patient."""
    volume = simulate_volume(3, spacing, contrast="t1", extent=(lowest, highest), healthy=True)
    volume.affine[2, 3] = lowest
    return volume


def save(file: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), file)
    return file


def patient(folder: Path, shift: float = 0.0, aside: float = 0.0) -> Path:
    """CT and MR of one head on grids of their own; the CT `shift` mm too high and `aside` mm to the side."""
    ct = head(FINE, -30, 40)
    mr = head(COARSE, -16, 60)
    moved = ct.affine + np.array([[0, 0, 0, aside], [0, 0, 0, 0], [0, 0, 0, shift], [0, 0, 0, 0]])
    save(folder / "brain/1BA001/ct.nii.gz", ct.ct, moved)
    save(folder / "brain/1BA001/mr.nii.gz", (mr.mr * 900).astype(np.int16), mr.affine)
    return folder


def stored(folder: Path, target: Path, split: str = "test") -> tuple[pd.DataFrame, Path]:
    """The index and folder of arrays of all slices of `folder`, as slices of `split`."""
    raw, slices = target / "raw", target / "slices"
    download(PARAMS.data.model_copy(update={"source": "folder", "folder": str(folder)}), raw)
    table = manifest.build(raw, workers=1)
    table = table[table["head_share"] > 0].assign(split=split, group="1")
    slices.mkdir(parents=True)
    index, _ = prepare_slices.fill(slices, table, PARAMS.preprocess, raw, workers=1, pairs_in=(split,))
    return index, slices


def test_slices_of_different_grids_have_their_truth_in_place(tmp_path: Path) -> None:
    index, slices = stored(patient(tmp_path / "mine"), tmp_path)
    paired = index[index["pair"] >= 0].sort_values("pair")
    ct, mr = (paired[paired["modality"] == modality] for modality in ("ct", "mr"))
    assert len(ct) == len(mr) >= 7
    assert np.abs(ct["position"].to_numpy() - mr["position"].to_numpy()).max() <= 3.5  # half of 7 mm
    assert paired["offset"].max() < REGISTERED
    # The same head's CT drawn on the grid of the MR is what the truth of each MR slice must be.
    right = head(COARSE, -16, 60)
    save(tmp_path / "right/ct/1.nii.gz", right.ct, right.affine)
    save(tmp_path / "right/mr/1.nii.gz", (right.mr * 900).astype(np.int16), right.affine)
    (tmp_path / "right/pairs.csv").write_text("ct,mr\nct/1.nii.gz,mr/1.nii.gz\n")
    same, others = stored(tmp_path / "right", tmp_path / "again")
    numbers = same.loc[same["modality"] == "mr"].set_index("frame")["pair"]
    truth, wanted = (slice_arrays.load_array("truth", "ct", folder) for folder in (slices, others))
    matched = [(pair, numbers[frame]) for pair, frame in zip(mr["pair"], mr["frame"], strict=True) if numbers[frame] >= 0]
    assert len(matched) >= 7
    for pair, number in matched:
        assert np.corrcoef(truth[pair].ravel(), wanted[number].ravel())[0, 1] > 0.9
    # Training is given the same, and all of the head is known where both volumes reach.
    _, training = stored(tmp_path / "mine", tmp_path / "train", "train")
    for modality in ("ct", "mr"):
        truth, paired = (slice_arrays.load_array(kind, modality, place) for kind, place in (("truth", slices), ("train_truth", training)))
        assert np.array_equal(truth, paired)
        assert slice_arrays.load_array("train_known", modality, training).min() > 0


def test_the_head_is_not_known_where_the_other_volume_ends_and_air_is() -> None:
    corners = [8.0, 8.0, 8.0, 24.0, 24.0, 24.0, 24.0, 8.0]
    inside = np.zeros((32, 32), bool)
    inside[:, :16] = True
    known = find_known(Partner(Path("mr.nii"), 0, "mr", corners), inside, Box(0, 0, 32), 32, (1.0, 1.0))
    assert known[:, :15].all()
    assert not known[10:22, 17:23].any()
    assert known[:, 26:].all()
    assert known[:6].all()


def test_volumes_that_do_not_overlap_are_no_pair(tmp_path: Path) -> None:
    index, _ = stored(patient(tmp_path / "mine", shift=400), tmp_path)
    assert (index["pair"] == -1).all()
    with pytest.raises(UserError, match=r"ct/1BA001/ct.nii.gz and .*mr.nii.gz: .* do not overlap; register them first"):
        stored(patient(tmp_path / "beside", aside=800), tmp_path / "second")


def test_a_pair_that_is_not_registered_is_seen(tmp_path: Path) -> None:
    index, _ = stored(patient(tmp_path / "mine", aside=25), tmp_path)
    assert index.loc[index["pair"] >= 0, "offset"].min() > REGISTERED


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_volume_onto_another_grid_and_back(order: tuple[int, ...], tmp_path: Path) -> None:
    fine = head(FINE, -30, 40)
    coarse = head(COARSE, -16, 30)
    turned = np.eye(4)[[*order, 3]].T
    one = read_volume(save(tmp_path / "a.nii", np.transpose(fine.ct, order), fine.affine @ turned))
    other = read_volume(save(tmp_path / "b.nii", coarse.ct, coarse.affine))
    moved, inside = onto_grid(one, other)
    assert same_grid(moved, other)
    assert not same_grid(one, other)
    assert inside.mean() > 0.8
    assert np.corrcoef(moved.voxels[inside], other.voxels[inside])[0, 1] > 0.9
    coarse.affine[2, 3] += 35
    moved, inside = onto_grid(one, read_volume(save(tmp_path / "c.nii", coarse.ct, coarse.affine)))
    assert 0.2 < inside.mean() < 0.8
    assert moved.voxels[~inside].max() == one.voxels.min()
