"""Distances of textures: by hand, and where they have no meaning."""

import numpy as np
import pytest

from pipeline.evaluation import texture


def test_frechet_of_a_shift_by_hand() -> None:
    # Same spread, mean moved by two standard deviations in one of four features: 2² / 4.
    real = np.random.default_rng(0).normal(size=(200, 4))
    moved = real + np.array([2, 0, 0, 0]) * real.std(axis=0)
    assert texture.distances(moved, real)["texture_frechet"] == pytest.approx(1.0, abs=1e-6)


def test_kernel_distance_by_hand() -> None:
    # Real rows ±1 (mean 0, deviation 1), predicted rows both 2: (x·y + 1)³ gives 125 within, 0 within the real, (27 - 1) / 2 between.
    kernel = texture.distances(np.array([[2.0], [2.0]]), np.array([[1.0], [-1.0]]))["texture_kernel"]
    assert kernel == pytest.approx(125 + 0 - 2 * (27 - 1) / 2)


def test_the_same_pictures_are_no_way_apart_and_noise_is() -> None:
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.random((6, 24, 24), np.float32), axis=2) / 24
    real = texture.features(smooth)
    assert texture.distances(real, real)["texture_frechet"] == pytest.approx(0, abs=1e-6)
    noise = texture.distances(texture.features(random.random((6, 24, 24), np.float32)), real)
    assert noise["texture_frechet"] > 1
    assert noise["texture_kernel"] > 0


def test_constant_pictures_have_numbers() -> None:
    flat = texture.features(np.full((3, 16, 16), 0.5, np.float32))
    assert flat.shape == (3, 32)
    assert np.isfinite(flat).all()
    assert all(np.isfinite(value) for value in texture.distances(flat, flat).values())


def test_one_slice_has_no_distribution() -> None:
    one = texture.features(np.zeros((1, 16, 16), np.float32))
    assert texture.distances(one, one) == {}


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        texture.features(np.full((1, 16, 16), np.nan, np.float32))
