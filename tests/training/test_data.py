"""Batches depend on the step alone, and every slice has its turn."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.data import Slices
from tests.training import jobs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.make(tmp_path_factory.mktemp("job")) / "data/slices"


def test_the_same_step_gives_the_same_batch(folder: Path) -> None:
    first, again = (Slices("train", folder).batch(5, jobs.PARAMS.train) for _ in range(2))
    assert torch.equal(first.ct, again.ct)
    assert torch.equal(first.mr, again.mr)


def test_every_slice_is_seen_once_a_pass(folder: Path) -> None:
    still = jobs.PARAMS.train.model_copy(update={"flip": False, "batch_size": 1})
    slices = Slices("train", folder)
    seen = {slices.batch(step, still).ct.numpy().tobytes() for step in range(7)}
    assert len(seen) == 7


def test_pairs_stay_aligned(folder: Path) -> None:
    slices = Slices("teacher", folder)
    pixels = {row.tobytes(): i for i, row in enumerate(slices.ct)} | {row[:, ::-1].tobytes(): i for i, row in enumerate(slices.ct)}
    partners = {row.tobytes(): i for i, row in enumerate(slices.mr)} | {row[:, ::-1].tobytes(): i for i, row in enumerate(slices.mr)}
    plain = jobs.PARAMS.train.model_copy(update={"teacher": jobs.PARAMS.train.teacher.model_copy(update={"augment": False})})
    batch = slices.pairs(3, plain)
    assert batch.input_ct is batch.ct
    for ct, mr in zip(batch.ct, batch.mr, strict=True):
        as_stored = [((one[0] + 1) * 127.5).round().to(torch.uint8).numpy().tobytes() for one in (ct, mr)]
        assert pixels[as_stored[0]] == partners[as_stored[1]]


def test_values_lie_between_minus_one_and_one(folder: Path) -> None:
    batch = Slices("train", folder).batch(0, jobs.PARAMS.train)
    assert batch.ct.min() >= -1
    assert batch.ct.max() <= 1


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run dvc repro preprocess"):
        Slices("train", tmp_path)
