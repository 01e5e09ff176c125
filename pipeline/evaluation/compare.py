"""Means with 95 % intervals, and paired differences, by bootstrap over groups: slices of one patient are not independent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def group_means(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Mean of each group; undefined values (NaN) are left out, and so is a group that has no other."""
    known = np.isfinite(values)
    _, member = np.unique(np.asarray(groups)[known], return_inverse=True)
    return np.bincount(member, values[known]) / np.bincount(member)


def interval(values: NDArray[np.float64], groups: Sequence[str], resamples: int, seed: int) -> tuple[float, float, float] | None:
    """Mean over groups with its 95 % percentile interval; None where no value is defined. One group: an interval of no width."""
    means = group_means(values, groups)
    if not len(means):
        return None
    picks = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    low, high = np.percentile(means[picks].mean(axis=1), [2.5, 97.5])
    return float(means.mean()), float(low), float(high)


def verdict(difference: tuple[float, float, float], lower_is_better: bool, groups: int) -> str:
    """`better`, `worse` or `no difference shown`, of a paired difference with its interval."""
    _, low, high = difference
    if groups < 2 or low <= 0 <= high:
        return "no difference shown"
    return "better" if (high < 0) == lower_is_better else "worse"
