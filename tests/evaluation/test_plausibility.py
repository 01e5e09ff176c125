"""Measures of a synthetic CT on a head built by hand, and on what is wrong with it."""

import dataclasses
import math

import numpy as np
import pytest

from benchmarks.plausibility import WANTED, Plausibility, flicker, measure_plausibility

SIZE = (2.0, 2.0, 2.0)  # mm
ONE_MM = (1.0, 1.0, 1.0)


def head() -> np.ndarray:
    """A ball of brain in skull and skin on a neck, with an air-filled sinus in the lower half, in the middle of air."""
    x, y, z = np.indices((110, 120, 110)) * 2.0 - np.array([110, 120, 130])[:, None, None, None]
    radius = np.sqrt(x**2 + y**2 + z**2)
    ct = np.full(radius.shape, -1000.0, np.float32)
    ct[(radius < 85) | ((np.hypot(x, y) < 50) & (z < 0))] = -80
    ct[radius < 80] = 1200
    ct[radius < 74] = 35
    ct[(np.hypot(x, y - 50) < 10) & (z < -20) & (z > -50)] = -950
    smooth = np.random.default_rng(0).normal(0, 2, radius.shape)
    return np.where(ct > -900, ct + smooth, ct).astype(np.float32)


def outside_bounds(measures: Plausibility) -> set[str]:
    return {name for name, value in dataclasses.asdict(measures).items() if not WANTED[name][0] <= value <= WANTED[name][1]}


def test_a_plausible_head_is_within_all_bounds() -> None:
    measures = measure_plausibility(head(), SIZE)
    assert outside_bounds(measures) == set()
    assert measures.brain == pytest.approx(35, abs=0.5)
    assert measures.thickness_mm == pytest.approx(6, abs=1.5)
    assert measures.peak == pytest.approx(1200, abs=30)


def test_a_hole_in_the_skull_opens_the_ring() -> None:
    ct = head()
    ct[40:70, 40:75, 90:] = np.where(ct[40:70, 40:75, 90:] > 300, 35, ct[40:70, 40:75, 90:])
    measures = measure_plausibility(ct, SIZE)
    assert outside_bounds(measures) == {"closed"}
    assert 0.8 < measures.closed < 0.97


def test_each_fault_is_named() -> None:
    ct = head()
    assert outside_bounds(measure_plausibility(np.where(ct > 300, 250, ct), SIZE)) == {"closed", "peak", "thickness_mm"}
    assert outside_bounds(measure_plausibility(np.where(ct > 300, 2500, ct), SIZE)) == {"peak"}
    assert outside_bounds(measure_plausibility(np.where((ct > 0) & (ct < 300), ct + 60, ct), SIZE)) == {"brain"}
    assert outside_bounds(measure_plausibility(np.where(ct == -950, 35, ct), SIZE)) >= {"sinus_ml"}
    assert outside_bounds(measure_plausibility(np.where(ct == -1000, -990, ct), SIZE)) == {"outside"}
    striped = ct + np.where(np.arange(ct.shape[2]) % 2, 20, -20) * (ct > -900)
    assert "flicker" in outside_bounds(measure_plausibility(striped, SIZE))


def test_air_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no head"):
        measure_plausibility(np.full((20, 20, 20), -1000.0), SIZE)


def test_flicker_by_hand() -> None:
    i, j, k = np.indices((20, 20, 20)).astype(float)
    mask = np.ones((20, 20, 20), bool)
    assert flicker(10 * i + 10 * j + 10 * k, mask, ONE_MM) == pytest.approx(1)
    assert flicker(10 * i + 10 * j + 30 * k, mask, ONE_MM) == pytest.approx(3)
    assert flicker(10 * i + 10 * j + 30 * k, mask, (1, 1, 3)) == pytest.approx(1)
    assert flicker(30 * i + 10 * j + 10 * k, mask, ONE_MM, axis=0) == pytest.approx(3)
    striped = np.where(k % 2 == 0, 1000.0, 0.0)
    mask[:, :, 1::2] = False
    assert math.isnan(flicker(striped, mask, ONE_MM))  # no two neighbours along k lie inside
