"""Batches depend on the step alone, and every slice has its turn."""

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST
from pipeline.models.window import SOFT_TISSUE, show_through_window, window_of_hu
from pipeline.params import Window
from pipeline.training.data import Slices, vary_window
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
    """Bone is dark in MR of the same pixels, whatever the frame."""
    heads = SimulatedHeads("teacher", folder)
    pairs = [heads.pairs(step, jobs.PARAMS.train) for step in range(8)]
    ct, mr = (torch.cat([getattr(pair, name) for pair in pairs]) for name in ("ct", "mr"))
    bone, (water, blood) = window_of_hu(700, 1000)[0], window_of_hu(0, 80)
    assert mr[ct > bone].mean() < mr[(ct > water) & (ct < blood)].mean() - 0.1


def test_without_variations_a_generator_sees_a_clean_picture(folder: Path) -> None:
    plain = jobs.PARAMS.train.model_copy(update={"teacher": jobs.PARAMS.train.teacher.model_copy(update={"augment": False})})
    pairs = SimulatedHeads("teacher", folder).pairs(3, plain)
    shown, truth = show_through_window(pairs.input_ct, SOFT_TISSUE), show_through_window(pairs.ct, SOFT_TISSUE)
    assert (shown - truth).abs().mean() < 0.1
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


def test_windows_of_pictures_vary_and_what_hounsfield_units_are_known_is_seen_through_some(folder: Path) -> None:
    known = torch.tensor([[0.0, 80.0]] * 50 + [[CT_LOWEST, CT_HIGHEST]] * 50)
    random = torch.Generator().manual_seed(0)
    grey = torch.linspace(0, 1, 9).view(1, 1, 1, -1)
    low, high = window_of_hu(0, 80)
    pictures, whole = low + grey * (high - low), 2 * grey - 1
    ct, window = vary_window(torch.cat([pictures.expand(50, -1, -1, -1), whole.expand(50, -1, -1, -1)]), known, random)
    shown = show_through_window(ct, window)
    torch.testing.assert_close(shown[:50], (2 * grey - 1).expand(50, -1, -1, -1), atol=1e-4, rtol=0)  # the same grey
    assert window[:50].std(0).min() > 0.005  # laid over other Hounsfield units each time
    complete = (window[50:, 1] - window[50:, 0]) > 1.99
    assert 10 < int(complete.sum()) < 40
    torch.testing.assert_close(ct[50:][complete], whole.expand(int(complete.sum()), -1, -1, -1), atol=1e-4, rtol=0)
    assert (ct[50:][~complete].amax((1, 2, 3)) <= window[50:][~complete][:, 1] + 1e-6).all()


def test_the_teacher_never_depends_on_the_display_window(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "slices")
    preprocess = slice_arrays.load_preprocessing(folder)
    wide = preprocess.model_copy(update={"ct_window": Window(level=500.0, width=3000.0)})
    slice_arrays.write_preprocessing(other, wide)
    first, second = (SimulatedHeads("teacher", place).pairs(3, jobs.PARAMS.train) for place in (folder, other))
    assert all(torch.equal(one, two) for one, two in zip(vars(first).values(), vars(second).values(), strict=True) if one is not None)
