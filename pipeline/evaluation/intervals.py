"""Means over groups with their intervals, and comparisons of two methods, that keep their level with few groups.

Slices of one group (patient, series, near duplicates) are not independent, so a group counts once: with the mean of its slices. Two
intervals of the group means are made, and the farther end of both is given on either side: Student's t, which keeps its level with few
groups of unequal size (Ibragimov and Müller, Journal of Business and Economic Statistics 28(4), 2010), and Hall's, which undoes skewness
(Journal of the Royal Statistical Society B 54(1), 1992). docs/evaluation.md has their coverage, `benchmarks/intervals.py` makes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from pipeline.domain import Interval

LEVEL = 0.05  # chance of a wrong verdict, over all comparisons that are shown together
ALIKE = 1e-9  # share of the mean by which rounding makes equal means differ
ROUNDING = 1e-7  # differences of two scores that are smaller come from float32 pixels in 0..1, and are none
ENOUGH_GROUPS = 6  # of five patients all may agree by chance more often than LEVEL: 2 / 2⁵ = 0.0625


class Verdict(StrEnum):
    """What a comparison shows of the first method, and what of a challenger."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference shown"
    TOO_FEW = "too few patients to tell"


@dataclass(frozen=True)
class Comparison:
    """The mean difference of two methods over `groups` groups, its interval, and what it shows of the first."""

    difference: Interval
    groups: int
    verdict: Verdict


@dataclass(frozen=True)
class NonInferiority:
    """The mean difference of a challenger's and a champion's errors over `groups` groups, and whether it is small enough for sure."""

    difference: Interval
    groups: int
    passed: bool


def group_means(values: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Mean of each group; undefined values (NaN) are left out, and so is a group that has no other."""
    known = np.isfinite(values)
    _, member = np.unique(np.asarray(groups)[known], return_inverse=True)
    return np.bincount(member, values[known]) / np.bincount(member)


def mean_interval(values: NDArray[np.float64], groups: Sequence[str], comparisons: int = 1) -> Interval | None:
    """Mean over groups with its 95 % interval; None where no value is defined.

    No interval for one group, and for groups that all have the same number other than 0: without variance nothing tells how far the next
    patient will lie from it. Differences of exactly 0 are those of two methods that give the same.

    `comparisons`: how many intervals are read together; each is widened so that all of them hold in 95 % (Bonferroni).
    """
    means = group_means(values, groups)
    if not len(means):
        return None
    mean = float(means.mean())
    if len(means) == 1 or (mean != 0 and np.ptp(means) <= ALIKE * abs(mean)):
        return Interval(mean)
    scale, t = float(means.std(ddof=1)), -float(stdtrit(len(means) - 1, LEVEL / comparisons / 2)) / len(means) ** 0.5
    skewness = float(np.mean((means - mean) ** 3) / means.std() ** 3) if scale else 0.0
    upper, lower = (_untransform(end, skewness, len(means)) for end in (t, -t))
    return Interval(mean, mean - scale * max(t, upper), mean - scale * min(-t, lower))


def _untransform(t: float, skewness: float, count: int) -> float:
    """Inverse of Hall's transformation u + γu²/3 + γ²u³/27 + γ/6n, which takes most of the skewness γ from a mean in deviations u."""
    if abs(skewness) < 1e-6:
        return t
    return float(3 / skewness * (np.cbrt(1 + skewness * (t - skewness / (6 * count))) - 1))


def compare(differences: NDArray[np.float64], groups: Sequence[str], *, lower_is_better: bool, comparisons: int = 1) -> Comparison | None:
    """Compare two methods by their scores' `differences` (first minus second) on the same slices; None where no difference is defined.

    `comparisons`: how many verdicts are shown together; they hold together with the level LEVEL.
    """
    differences = _without_rounding(differences)
    difference = mean_interval(differences, groups, comparisons)
    if difference is None:
        return None
    count = len(group_means(differences, groups))
    return Comparison(replace(difference, signed=True), count, _verdict(difference, count, lower_is_better))


def _without_rounding(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(differences) < ROUNDING, 0.0, differences)


def _verdict(difference: Interval, groups: int, lower_is_better: bool) -> Verdict:
    if groups < ENOUGH_GROUPS or difference.low is None or difference.high is None:
        return Verdict.TOO_FEW
    if difference.low <= 0 <= difference.high:
        return Verdict.NO_DIFFERENCE
    return Verdict.BETTER if (difference.high < 0) == lower_is_better else Verdict.WORSE


def non_inferiority(differences: NDArray[np.float64], groups: Sequence[str], margin: float) -> NonInferiority | None:
    """Test a challenger by its errors' `differences` to the champion (challenger minus champion) on the same slices.

    It passes when the upper end of the two-sided 95 % interval of the mean difference lies below `margin`, so that a challenger that is
    truly worse by `margin` passes in 2.5 %. With fewer than ENOUGH_GROUPS groups none passes. None where no difference is defined.
    """
    differences = _without_rounding(differences)
    difference = mean_interval(differences, groups)
    if difference is None:
        return None
    count = len(group_means(differences, groups))
    passed = count >= ENOUGH_GROUPS and difference.high is not None and difference.high < margin
    return NonInferiority(replace(difference, signed=True), count, passed)
