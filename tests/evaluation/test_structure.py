"""What is preserved of the input's structure: by hand, and where it has no meaning."""

import math

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import normalized_mutual_information

from pipeline.evaluation import structure

BOX = np.zeros((32, 32), np.float32)
BOX[8:24, 8:24] = 0.5
BOX[12:20, 12:20] = 1.0


def test_a_copy_preserves_everything() -> None:
    expected = {"outline_dice": 1, "gradient_correlation": 1, "mind_distance": 0, "nmi": 2}
    assert structure.preservation(BOX, BOX) == pytest.approx(expected)


def test_other_brightness_of_the_same_parts_preserves_the_structure() -> None:
    swapped = np.select([BOX == 1.0, BOX == 0.5], [0.5, 1.0], 0).astype(np.float32)
    assert structure.preservation(BOX, swapped)["nmi"] == pytest.approx(2)


def test_a_moved_outline_by_hand() -> None:
    assert structure.preservation(BOX, np.roll(BOX, 8, axis=1))["outline_dice"] == pytest.approx(0.5)


def test_a_flat_translation_of_a_head() -> None:
    scores = structure.preservation(BOX, np.full_like(BOX, 0.5))
    assert (scores["gradient_correlation"], scores["nmi"]) == (0, 1)
    assert scores["mind_distance"] > 0


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_flat_source_has_no_structure_to_preserve(level: float) -> None:
    scores = structure.preservation(np.full_like(BOX, level), BOX)
    assert math.isnan(scores["gradient_correlation"])
    assert math.isnan(scores["nmi"])


def test_nan_and_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        structure.preservation(BOX, BOX * np.float32("nan"))
    with pytest.raises(ValueError, match="differ in size"):
        structure.preservation(BOX, BOX[:8])


def test_quick_ways_are_the_plain_ones() -> None:
    random = np.random.default_rng(0)
    source, prediction = random.random((2, 32, 40), np.float32) / 2 + 0.5  # all of it lies inside the outline
    plain = normalized_mutual_information(source, prediction, bins=structure.BINS)
    assert structure.preservation(source, prediction)["nmi"] == pytest.approx(plain)
    picture = np.float64(source)
    moved = [ndimage.shift(picture, by, order=0, mode="nearest") for by in structure.NEIGHBOURS]
    distance = np.stack([ndimage.gaussian_filter(np.square(picture - other), 0.5) for other in moved])
    descriptor = np.exp(-distance / np.maximum(distance.mean(axis=0), 1e-6))
    assert structure.mind(source) == pytest.approx(descriptor / descriptor.max(axis=0))
