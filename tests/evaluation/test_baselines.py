"""Trivial methods, and that the quick one gives what the plain one does."""

import numpy as np
import pytest
from skimage.exposure import match_histograms

from pipeline.evaluation import baselines


def test_the_quick_histogram_matching_equals_that_of_skimage() -> None:
    random = np.random.default_rng(0)
    images = np.float32(np.rint(random.beta(0.5, 2, (5, 24, 24)) * 65535) / 65535)
    image = np.float32(random.integers(0, 200, (24, 24)) / 255)
    plain = match_histograms(image.ravel(), images.ravel()).reshape(image.shape)
    assert baselines.match_histogram(image, *baselines.histogram(images)) == pytest.approx(plain, abs=1e-6)
