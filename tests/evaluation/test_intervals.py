"""Intervals and verdicts: by hand, with few groups, and their level by simulation."""

import numpy as np
import pytest
from scipy import stats

from pipeline.domain import Interval
from pipeline.evaluation.intervals import Verdict, compare, group_means, mean_interval, non_inferiority

SIX = list("abcdef")


def test_intervals_are_over_groups_not_slices() -> None:
    values, groups = np.array([1.0] * 9 + [0.0]), ["a"] * 9 + ["b"]
    assert group_means(values, groups).tolist() == [1.0, 0.0]
    interval = mean_interval(values, groups)
    assert interval is not None
    assert interval.mean == 0.5
    assert interval == mean_interval(np.array([1.0, 0.0]), ["a", "b"])


def test_symmetric_groups_get_students_interval() -> None:
    values = np.array([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3])
    interval = mean_interval(values, list("abcdefg"))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(stats.t.interval(0.95, 6, 0, stats.sem(values)))


def test_skewed_groups_get_a_longer_end_on_the_side_of_their_tail() -> None:
    values = np.array([0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 1.5])
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    interval = mean_interval(values, list("abcdefg"))
    assert interval is not None
    assert interval.low == pytest.approx(low)
    assert interval.high > high + 0.1
    mirrored = mean_interval(-values, list("abcdefg"))
    assert (mirrored.low, mirrored.high) == pytest.approx((-interval.high, -interval.low))


def test_one_group_has_no_interval() -> None:
    interval = mean_interval(np.array([0.2, 0.4]), ["a", "a"])
    assert interval == Interval(pytest.approx(0.3))
    assert str(interval) == "0.300"
    assert interval.as_scores("mae") == {"mae": pytest.approx(0.3)}


def test_groups_that_are_all_alike_have_no_interval_and_pass_no_gate() -> None:
    alike = np.array([0.1] * 6)
    assert mean_interval(alike, SIX) == Interval(pytest.approx(0.1))
    tested = non_inferiority(alike, SIX, margin=0.5)
    assert tested is not None
    assert not tested.passed
    same = non_inferiority(np.zeros(6), SIX, margin=0.005)  # a challenger that translates as the champion does
    assert same is not None
    assert same.passed


def test_undefined_values_are_left_out_and_none_left_is_none() -> None:
    assert mean_interval(np.array([0.2, np.nan]), ["a", "b"]) == Interval(0.2)
    assert mean_interval(np.array([np.nan]), ["a"]) is None
    assert compare(np.array([np.nan]), ["a"], lower_is_better=True) is None


@pytest.mark.parametrize(
    ("differences", "lower_is_better", "expected"),
    [
        ([-0.1, -0.2, -0.1, -0.2, -0.1, -0.2], True, Verdict.BETTER),
        ([-0.1, -0.2, -0.1, -0.2, -0.1, -0.2], False, Verdict.WORSE),
        ([0.1, 0.2, 0.1, 0.2, 0.1, 0.2], True, Verdict.WORSE),
        ([0.1, 0.2, 0.1, 0.2, 0.1, 0.2], False, Verdict.BETTER),
        ([0.1, -0.2, 0.1, -0.2, 0.1, 0.2], True, Verdict.NO_DIFFERENCE),
        ([-0.1, -0.2, -0.1, -0.2, -0.1], True, Verdict.TOO_FEW),
        ([-0.1], True, Verdict.TOO_FEW),
        ([-0.1] * 6, True, Verdict.TOO_FEW),
        ([0.1, 0.1 + 1e-17, 0.3 - 0.2, 0.1, 0.1, 0.1], True, Verdict.TOO_FEW),
        ([0.0] * 6, True, Verdict.NO_DIFFERENCE),
    ],
)
def test_verdicts(differences: list[float], lower_is_better: bool, expected: Verdict) -> None:
    comparison = compare(np.array(differences), SIX[: len(differences)], lower_is_better=lower_is_better)
    assert comparison is not None
    assert comparison.verdict is expected
    assert comparison.groups == len(differences)


def test_more_comparisons_at_once_ask_for_more() -> None:
    differences = np.array([-0.1, -0.3, -0.1, -0.2, 0.0, -0.1])
    alone, among_many = (compare(differences, SIX, lower_is_better=True, comparisons=count) for count in (1, 8))
    assert alone is not None
    assert among_many is not None
    assert (alone.verdict, among_many.verdict) == (Verdict.BETTER, Verdict.NO_DIFFERENCE)
    assert among_many.difference.low < alone.difference.low


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("groups", [6, 12, 30])
def test_equal_methods_are_told_apart_in_a_twentieth_of_the_trials_at_most(groups: int, skewed: bool) -> None:
    random, trials = np.random.default_rng(groups), 2000
    sizes = random.integers(1, 9, groups)  # slices of each patient, of unequal number
    names = np.repeat([f"patient {n}" for n in range(groups)], sizes).tolist()
    effects = (lambda count: random.exponential(size=count) - 1) if skewed else (lambda count: random.normal(size=count))
    wrong = 0
    for _ in range(trials):
        differences = np.repeat(effects(groups), sizes) + random.normal(size=sizes.sum())
        comparison = compare(differences, names, lower_is_better=True)
        assert comparison is not None
        wrong += comparison.verdict is not Verdict.NO_DIFFERENCE
    assert 0.02 < wrong / trials < 0.065


def test_a_challenger_must_be_shown_to_be_no_worse_than_the_margin() -> None:
    slightly_worse = np.array([0.001, 0.002, 0.003, 0.001, 0.002, 0.003])
    passed = non_inferiority(slightly_worse, SIX, margin=0.005)
    assert passed is not None
    assert passed.passed
    failed = non_inferiority(slightly_worse, SIX, margin=0.002)
    assert failed is not None
    assert not failed.passed
    scattered = non_inferiority(np.array([-0.1, 0.1, -0.1, 0.1, -0.1, 0.1]), SIX, margin=0.005)
    assert scattered is not None
    assert not scattered.passed  # not shown to be worse, but not shown to be within the margin either


def test_too_few_groups_pass_no_challenger() -> None:
    result = non_inferiority(np.array([-0.1, -0.1, -0.1]), ["a", "b", "c"], margin=0.005)
    assert result is not None
    assert (result.groups, result.passed) == (3, False)
    assert non_inferiority(np.array([np.nan]), ["a"], margin=0.005) is None


def test_a_challenger_worse_by_the_margin_passes_in_one_of_forty() -> None:
    random, trials, groups = np.random.default_rng(0), 2000, 12
    names = [f"patient {n}" for n in range(groups)]
    results = [non_inferiority(random.normal(0.003, 0.004, groups), names, margin=0.003) for _ in range(trials)]
    assert 0.01 < np.mean([result is not None and result.passed for result in results]) < 0.035


def test_differences_by_rounding_are_none() -> None:
    """Two models with the same weights, translated in batches of different sizes."""
    rounding = np.array([-1e-8, -2e-8, -1e-8, -3e-8, -1e-8, -2e-8, -1e-8])
    groups = list("abcdefg")
    compared = compare(rounding, groups, lower_is_better=True)
    assert compared is not None
    assert compared.verdict is Verdict.NO_DIFFERENCE
    assert (compared.difference.low, compared.difference.mean, compared.difference.high) == (0, 0, 0)
    better = compare(rounding * 1000, groups, lower_is_better=True)
    assert better is not None
    assert better.verdict is Verdict.BETTER
