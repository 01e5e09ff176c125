"""Level in the head by looks, against simulated heads whose height is known."""

import numpy as np

from pipeline import phantom
from pipeline.evaluation.level import level_of
from pipeline.formats.slices import Slice
from pipeline.imaging.prepare import NoHead, prepare
from tests.training import jobs


def test_levels_of_simulated_heads() -> None:
    wanted = [("low", 0.02), ("low", 0.1), ("low", 0.2), ("middle", 0.4), ("middle", 0.5), ("middle", 0.6), ("top", 0.9), ("top", 0.95)]
    right = []
    for seed in range(70, 75):
        for (expected, _), head in zip(wanted, phantom.simulate_subject(seed, [place for _, place in wanted], size=128), strict=True):
            try:
                ct = prepare(Slice(np.float32(phantom.render_pair(head, seed)[0]) / 255), "ct", jobs.PARAMS.preprocess).array
            except NoHead:
                continue
            right.append(level_of(ct) == expected)
    assert len(right) > 35
    assert np.mean(right) >= 0.9


def test_a_black_picture_has_a_level() -> None:
    assert level_of(np.zeros((16, 16), np.float32)) == "middle"
