"""Chunks of slices on several threads, or on a cluster, give what one chunk on one thread gives."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import paths
from pipeline.domain import Direction, Modality
from pipeline.evaluation import scoring
from pipeline.models.inference import load_generator, translate
from pipeline.models.uncertainty import estimate_uncertainty
from pipeline.parallel import SCHEDULER
from tests.evaluation import projects
from tests.evaluation.test_edge_cases import heads


def test_chunks_and_threads_do_not_show_in_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(7)))
    before, both = torch.get_num_threads(), []
    for threads, pixels in ((1, 2**20), (3, 1)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(scoring, "PIXELS_AT_ONCE", pixels)
        both.append(scoring.score_models(projects.PARAMS.model_copy(update={"batch_size": 16})))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for plain, chunked in zip(*both, strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(plain.rows), pd.DataFrame(chunked.rows), rtol=1e-3, atol=1e-4)
        assert chunked.overall == pytest.approx(plain.overall, rel=1e-3, abs=1e-3)


def test_a_cluster_gives_the_scores_that_threads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dask_scheduler: str) -> None:
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(7)))
    here = scoring.score_models(projects.PARAMS)
    monkeypatch.setenv(SCHEDULER, dask_scheduler)
    monkeypatch.setattr(scoring, "score_batch", None)  # nothing is done here
    assert repr(scoring.score_models(projects.PARAMS)) == repr(here)  # a score that is not defined is NaN, which equals nothing


def test_uncertainty_is_worked_out_on_some_slices_evenly_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(7)))
    monkeypatch.setattr(scoring, "UNCERTAINTY_SLICES", 3)
    for result in scoring.score_models(projects.PARAMS):
        assert [row["slice_id"][2:] for row in result.rows if "uncertainty_correlation" in row] == ["0", "3", "6"]


def test_uncertainty_that_is_given_the_translation_is_the_same(tmp_path: Path) -> None:
    generator = load_generator(projects.make_project(tmp_path / "project", heads(2)) / paths.MODELS, Direction.CT_TO_MR)
    images = np.float32(heads(2)[Modality.CT]) / 255
    work = partial(translate, generator, contrast="t1")
    assert np.array_equal(estimate_uncertainty(work, images), estimate_uncertainty(work, images, work(images)))
