"""Tissue shares in bytes draw what the layers draw."""

import numpy as np
import pytest

from pipeline.phantom import shares, signal
from pipeline.phantom.anatomy import Plane, cut, draw_subject
from pipeline.phantom.sequences import draw_sequence
from pipeline.phantom.tissues import Tissue


@pytest.fixture(scope="module", params=[(7, 0.05), (3, 0.3), (5, 0.6)])
def plane(request: pytest.FixtureRequest) -> Plane:
    seed, position = request.param
    return cut(draw_subject(seed), position, 192, 256 / 192, 3.0)


@pytest.mark.parametrize("shrink", [1, 2])
def test_shares_draw_what_layers_draw(plane: Plane, shrink: int) -> None:
    g = np.random.default_rng(1)
    units, signals = signal.draw_units(g), signal.draw_signals(draw_sequence(g), g)
    stored = shares.store(plane, shrink)
    for values, background, tolerance in ((units, -1000.0, 1.0), (signals, 0.0, 0.001)):
        picture = signal.composite(plane.layers, values, background)
        rows, columns = (side // shrink * shrink for side in picture.shape)
        wanted = picture[:rows, :columns].reshape(rows // shrink, shrink, columns // shrink, shrink).mean((1, 3))
        assert np.abs(stored.draw(values) - wanted).mean() < tolerance


def test_weights_are_whole_and_fall(plane: Plane) -> None:
    stored = shares.store(plane)
    assert (stored.weight.sum(0, dtype=int) == 255).all()
    assert (np.diff(stored.weight.astype(int), axis=0) <= 1).all()  # a byte more for rounding
    assert stored.stack().shape == (shares.CHANNELS, *stored.depth.shape)
    assert stored.stack().dtype == np.uint8


def test_depth_says_where_the_head_is_and_how_deep(plane: Plane) -> None:
    stored = shares.store(plane)
    np.testing.assert_array_equal(stored.depth > 0, plane.head < 0)
    inside = (stored.depth > 0) & (plane.inner_skull < 30)
    depth = (stored.depth.astype(np.float32) - 1) * shares.DEPTH_STEP - shares.DEEPEST
    assert np.abs(depth - plane.inner_skull)[inside].max() <= shares.DEPTH_STEP / 2 + 1e-4


def test_outside_is_air(plane: Plane) -> None:
    stored = shares.store(plane)
    assert (stored.tissue[0][plane.head > 5] == Tissue.AIR).all()
