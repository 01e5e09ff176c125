"""Trivial methods, and that the quick one gives what the plain one does."""

import numpy as np
import pytest
from skimage.exposure import match_histograms

from pipeline.dataset import slice_arrays
from pipeline.evaluation import baselines


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_quick_histogram_matching_equals_that_of_skimage(dtype: type) -> None:
    random = np.random.default_rng(0)
    stored = (random.beta(0.5, 2, (5, 24, 24)) * np.iinfo(dtype).max).astype(dtype)
    image = slice_arrays.to_float(random.integers(0, 200, (24, 24), dtype=np.uint8))
    plain = match_histograms(image.ravel(), slice_arrays.to_float(stored).ravel()).reshape(image.shape)
    assert baselines.match_histogram(image, *baselines.histogram(stored)) == pytest.approx(plain, abs=1e-6)
