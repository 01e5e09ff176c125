"""Batches depend on the step alone, and every slice has its turn."""

from pathlib import Path

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.data import Slices
from pipeline.training.simulated_pairs import SimulatedHeads
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


def test_every_visit_draws_a_head_anew_and_the_same_step_the_same(folder: Path) -> None:
    heads = SimulatedHeads("teacher", folder)
    first, again, later = (heads.pairs(step, jobs.PARAMS.train) for step in (3, 3, 7))  # step 7: the same heads, one pass later
    assert all(torch.equal(one, other) for one, other in zip(vars(first).values(), vars(again).values(), strict=True) if one is not None)
    assert not torch.equal(first.mr, later.mr)
    for pictures in (first.ct, first.mr, first.input_ct, first.input_mr):
        assert pictures.shape == (2, 1, 32, 32)
        assert pictures.min() >= -1
        assert pictures.max() <= 1


def test_pairs_are_aligned(folder: Path) -> None:
    """Bone is white in CT and dark in MR of the same pixels, whatever the frame."""
    heads = SimulatedHeads("teacher", folder)
    pairs = [heads.pairs(step, jobs.PARAMS.train) for step in range(8)]
    ct, mr = (torch.cat([getattr(pair, name) for pair in pairs]) for name in ("ct", "mr"))
    assert mr[ct > 0.95].mean() < mr[(ct > -0.4) & (ct < 0.4)].mean() - 0.1


def test_without_variations_a_generator_sees_a_clean_picture(folder: Path) -> None:
    plain = jobs.PARAMS.train.model_copy(update={"teacher": jobs.PARAMS.train.teacher.model_copy(update={"augment": False})})
    pairs = SimulatedHeads("teacher", folder).pairs(3, plain)
    assert (pairs.input_ct - pairs.ct).abs().mean() < 0.02
    assert (pairs.input_mr - pairs.mr).abs().mean() < 0.05


def test_heads_that_training_is_judged_by_never_change(folder: Path) -> None:
    first, again = (SimulatedHeads("teacher_val", folder) for _ in range(2))
    assert first.ct.tobytes() == again.ct.tobytes()
    assert first.mr.shape == (4, 32, 32)
    assert len(first.contrast_names) == 4
    assert "" not in first.contrast_names


def test_heads_held_on_the_device_give_the_same_pairs(folder: Path) -> None:
    streamed, held = (SimulatedHeads("teacher", folder) for _ in range(2))
    assert held.hold(torch.device("cpu"), 10) == 10
    assert held.hold(torch.device("cpu"), 10**7) == 10**7 - held.shares.nbytes
    assert torch.equal(streamed.pairs(2, jobs.PARAMS.train).input_mr, held.pairs(2, jobs.PARAMS.train).input_mr)


def test_values_lie_between_minus_one_and_one(folder: Path) -> None:
    batch = Slices("train", folder).batch(0, jobs.PARAMS.train)
    assert batch.ct.min() >= -1
    assert batch.ct.max() <= 1


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run dvc repro preprocess"):
        Slices("train", tmp_path)
