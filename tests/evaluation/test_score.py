"""Chunks of slices on several threads give what one chunk on one gives, and are not all taken at once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import paths
from pipeline.evaluation import score
from pipeline.models.bundle import load_generator, translate
from pipeline.models.uncertainty import doubt
from tests.evaluation import projects
from tests.evaluation.test_edge_cases import heads


def test_chunks_and_threads_do_not_show_in_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make(tmp_path / "project", heads(7)))
    before, found = torch.get_num_threads(), []
    for threads, pixels in ((1, 2**20), (3, 1)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(score, "AT_ONCE", pixels)
        found.append(score.score(projects.RULES.model_copy(update={"batch_size": 16})))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for plain, chunked in zip(*found, strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(plain.rows), pd.DataFrame(chunked.rows), rtol=1e-3, atol=1e-4)
        assert chunked.texture == pytest.approx(plain.texture, rel=1e-3, abs=1e-3)
        assert chunked.spread == pytest.approx(plain.spread, rel=1e-4)


def test_only_a_few_items_are_taken_ahead() -> None:
    taken, done, lock = [], [], threading.Lock()

    def items() -> Iterator[int]:
        for n in range(40):
            with lock:
                taken.append(n)
                assert len(taken) - len(done) <= 3 * score.AHEAD + 1  # and this one
            yield n

    for result in score.in_threads(lambda n: n * n, items(), 3):
        with lock:
            done.append(result)
    assert done == [n * n for n in range(40)]


def test_doubt_is_worked_out_on_some_slices_evenly_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make(tmp_path / "project", heads(7)))
    monkeypatch.setattr(score, "DOUBTED", 3)
    for one in score.score(projects.RULES):
        assert [row["slice_id"][2:] for row in one.rows if "doubt_correlation" in row] == ["0", "3", "6"]


def test_doubt_that_is_given_the_translation_is_the_same(tmp_path: Path) -> None:
    generator = load_generator(projects.make(tmp_path / "project", heads(2)) / paths.MODELS, "ct_to_mr")
    images = np.float32(heads(2)["ct"]) / 255
    assert np.array_equal(doubt(generator, images, "t1"), doubt(generator, images, "t1", made=translate(generator, images, "t1")))
