"""Registered pairs in training: both sides in one place, nothing counted that is not known, and held-out pairs translated better."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from pipeline.imaging.intensity import ct_to_unit
from pipeline.models.cyclegan import Pairs
from pipeline.models.learner import Learner
from pipeline.params import Params
from pipeline.training.feed import Data
from pipeline.training.loop import Training
from pipeline.training.paired_slices import PairedSlices
from pipeline.training.simulated_pairs import SimulatedHeads
from tests.training import jobs
from tests.training.test_loop import new_training, run

CPU = torch.device("cpu")
PAIRS = {"train": 8, "val": 4}


def chosen(**train: object) -> Params:
    content = jobs.PARAMS.model_dump(by_alias=True)
    content["split"]["pairs"] = "grouped"
    pairs = train.pop("pairs", {"images": 8})
    content["train"] |= {"images": 0, "sample_images": 10**6, "lambda_identity": 0.0, **train}
    content["train"]["teacher"] |= {"images": 0, "weight": 0.0}
    content["train"]["pairs"] |= pairs
    return params.parse(content, "params.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated heads as registered pairs of slices; the MR in the order opposite to the CT."""
    torch.set_num_threads(1)
    folder = jobs.make(tmp_path_factory.mktemp("job")) / "data/slices"
    rows = []
    for split, count in PAIRS.items():
        heads = SimulatedHeads("teacher" if split == "train" else paths.HELD_OUT, folder)
        backwards = np.arange(count)[::-1]
        for modality, stored in (("ct", heads.ct), ("mr", heads.mr)):
            order = np.arange(count) if modality == "ct" else backwards
            np.save(folder / f"{split}_{modality}.npy", stored[order])
            np.save(folder / f"{split}_truth_{modality}.npy", stored)
            np.save(folder / f"{split}_known_{modality}.npy", np.full(stored.shape, 65535, np.uint16))
            contrasts = [heads.contrast_names[row] for row in order]
            rows += [
                {"split": split, "modality": modality, "row": row, "contrast": contrasts[row], "pair": order[row]} for row in range(count)
            ]
    pd.DataFrame(rows).assign(intensity_low=-1000.0, intensity_high=3000.0).to_parquet(folder / "index.parquet")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    return Data.load(with_teacher=False, folder=folder, with_pairs=True)


def test_both_sides_show_the_same_place_however_they_are_varied(data: Data) -> None:
    train = chosen(flip=True, crop=0.3, affine=True).train
    assert data.pairs is not None
    for step in range(6):
        pairs = data.pairs.pairs(step, train)
        assert torch.equal(pairs.ct, pairs.input_ct)
        assert torch.equal(pairs.mr, pairs.input_mr)
        assert pairs.ct_weight is not None
        assert 0.5 < pairs.ct_weight.mean() < 1  # what turned in from beyond the picture is not known
        assert torch.equal(pairs.ct_weight == 0, pairs.mr_weight == 0)
    again = data.pairs.pairs(5, train)
    assert torch.equal(pairs.ct, again.ct)
    assert len({data.pairs.pairs(step, chosen(flip=False, batch_size=1).train).ct.numpy().tobytes() for step in range(8)}) == 8


def test_pairs_held_on_the_device_are_the_same(data: Data, folder: Path) -> None:
    assert data.train is not None
    held, train = PairedSlices(data.train, "train", folder), chosen().train
    assert held.hold(CPU, 10) == 10
    assert held.hold(CPU, 10**6) == 10**6 - 4 * 4 * 8 * 32 * 32
    for name, value in vars(held.pairs(3, train)).items():
        assert torch.equal(value, getattr(data.pairs.pairs(3, train), name))


def test_what_a_side_does_not_know_does_not_count(data: Data) -> None:
    assert data.pairs is not None
    train = chosen().train
    pairs = data.pairs.pairs(0, train)
    torch.manual_seed(0)
    networks = Learner(jobs.PARAMS.model, train, CPU).networks
    window = (2 * ct_to_unit(torch.tensor([[0.0, 80.0]])) - 1).repeat(2, 1)
    half = torch.ones_like(pairs.ct)
    half[..., 16:] = 0

    @torch.no_grad()
    def loss(**changes: object) -> float:
        return float(networks.paired_term(Pairs(**{**vars(pairs), "ct_weight": half, "mr_weight": half, **changes})))

    def spoilt(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return torch.where(where, torch.ones_like(images), images)

    beyond = (pairs.ct > window[0, 1]).expand_as(pairs.ct)
    assert loss() == loss(ct=spoilt(pairs.ct, half == 0), mr=spoilt(pairs.mr, half == 0))
    assert loss() != loss(ct=spoilt(pairs.ct, half == 1))
    assert loss(ct_window=window) == loss(ct_window=window, ct=spoilt(pairs.ct, beyond))  # brighter than white is white
    assert loss() != loss(ct=spoilt(pairs.ct, beyond))


def test_pairs_alone_teach_what_unpaired_slices_do_not(data: Data, tmp_path: Path) -> None:
    """As many slices of the same heads, told which belongs to which, or not."""
    unpaired = run(new_training(chosen(images=32, pairs={"weight": 0.0}), tmp_path / "unpaired", data_without_training_pairs(data))).metrics
    paired = run(new_training(chosen(pairs={"images": 32}), tmp_path / "paired", data)).metrics
    for direction in ("ct_to_mr", "mr_to_ct"):
        error = f"val/{direction}/registered_mae"
        assert paired[error][-1] < 0.8 * unpaired[error][-1]
    assert "train/pairs" in paired
    assert "train/cycle" not in paired


def test_pairs_go_beside_simulated_ones_and_unpaired_slices_after_the_warm_up(data: Data, folder: Path, tmp_path: Path) -> None:
    everything = Data.load(with_teacher=True, folder=folder, with_pairs=True)
    content = chosen(images=8, pairs={"images": 8}).model_dump(by_alias=True)
    content["train"]["teacher"] |= {"images": 4, "weight": 10.0}
    training = new_training(params.parse(content, "params.yaml"), tmp_path, everything)
    given = [[kind is not None for kind in training.feed.inputs(step)] for step in range(training.steps)]
    assert given == [[False, True, False]] * 2 + [[False, True, True]] * 4 + [[True, True, True]] * 4
    metrics = run(training).metrics
    assert {"train/teacher", "train/pairs", "train/cycle"} <= set(metrics)


def test_no_pairs_to_train_on_is_one_line(tmp_path: Path, folder: Path) -> None:
    index = slice_arrays.load_index(folder)
    other = jobs.make(tmp_path / "job") / "data/slices"
    pd.read_parquet(other / "index.parquet").assign(pair=-1).to_parquet(other / "index.parquet")
    assert (index["pair"] >= 0).all()
    data = Data.load(with_teacher=False, folder=other, with_pairs=True)
    with pytest.raises(UserError, match=r"train\.pairs\.images = 8, but no registered pairs fell into the train split"):
        Training(chosen(pairs={"images": 8}), tmp_path, CPU, data)


def data_without_training_pairs(data: Data) -> Data:
    return Data(data.train, data.val, None, None, None, data.pairs_val)
