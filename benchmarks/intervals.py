"""Level of verdicts and intervals by simulation, at 2 to 50 groups: normal and skewed groups, of 1 to 8 slices each.

python benchmarks/intervals.py [--trials 4000], some minutes on one core. Prints the tables of docs/evaluation.md. Between two methods there
is no true difference, so a verdict of better or worse is wrong; a challenger that is truly worse by the margin must not pass. One
table is what a percentile bootstrap of the group means would say of the same trials. In the last one a few groups are far worse than all
others, and nothing else varies.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import ENOUGH_GROUPS, Verdict, compare, group_means, mean_interval, non_inferiority

GROUPS = (2, 3, 4, 5, 6, 8, 12, 20, 30, 50)
MARGIN = 0.3  # standard deviations of a group's effect
RESAMPLES = 500
SIGMAS = (1.0, 1.2, 1.5)  # of the logarithm of a group's effect

MEASURES = (
    "95 % interval without the true mean; a wrong verdict from 6 groups on",
    "any of 8 independent verdicts shown together wrong",
    "a challenger truly worse by the margin passes",
    "percentile bootstrap without the true mean",
)
ALWAYS = (0, 3)  # measures that need no verdict

Effects = Callable[[np.random.Generator, int], NDArray[np.float64]]
EFFECTS: dict[str, Effects] = {  # of a group, mean 0, standard deviation 1
    "normal": lambda random, count: random.normal(size=count),
    "skewed (exponential)": lambda random, count: random.exponential(size=count) - 1,
    "very skewed (log-normal)": lambda random, count: (np.exp(random.normal(size=count)) - np.exp(0.5)) / 2.16,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    trials = parser.parse_args().trials
    rows = {name: [simulate(effects, count, trials) for count in GROUPS] for name, effects in EFFECTS.items()}
    for place, title in enumerate(MEASURES):
        print(f"\n| {title} | {' | '.join(rows)} |\n| --- |{' --- |' * len(rows)}")
        for line, count in enumerate(GROUPS):
            cells = [f"{each[line][place]:.1%}" if place in ALWAYS or count >= ENOUGH_GROUPS else "too few" for each in rows.values()]
            print(f"| {count} groups | {' | '.join(cells)} |")
    print(f"\n| verdict wrong, log-normal groups alone | {' | '.join(f'σ {sigma}' for sigma in SIGMAS)} |\n| --- |{' --- |' * len(SIGMAS)}")
    for count in (count for count in GROUPS if count >= ENOUGH_GROUPS):
        print(f"| {count} groups | {' | '.join(f'{wrong_when_skewed(sigma, count, trials):.1%}' for sigma in SIGMAS)} |")


def wrong_when_skewed(sigma: float, count: int, trials: int) -> float:
    """Share of trials with a wrong verdict for groups of one slice, whose effects are log-normal with mean 0."""
    random, wrong = np.random.default_rng(count), 0
    names = [str(number) for number in range(count)]
    for _ in range(trials):
        comparison = compare(np.exp(sigma * random.normal(size=count)) - np.exp(sigma**2 / 2), names, lower_is_better=True)
        wrong += comparison is not None and comparison.verdict in (Verdict.BETTER, Verdict.WORSE)
    return wrong / trials


def simulate(effects: Effects, count: int, trials: int) -> tuple[float, float, float, float]:
    """Shares of trials with `count` groups, as in MEASURES."""
    random = np.random.default_rng(count)
    missed, wrong, passed, bootstrap = 0, 0, 0, 0
    for _ in range(trials):
        values, groups = draw(random, effects, count)
        interval, gate = mean_interval(values, groups), non_inferiority(values + MARGIN, groups, MARGIN)
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        assert gate is not None
        missed += not interval.low <= 0 <= interval.high
        passed += gate.passed
        low, high = percentile_bootstrap(random, values, groups)
        bootstrap += not low <= 0 <= high
    for _ in range(trials // 8):
        wrong += any(wrong_among_eight(*draw(random, effects, count)) for _ in range(8))
    return missed / trials, wrong / (trials // 8), passed / trials, bootstrap / trials


def wrong_among_eight(values: NDArray[np.float64], groups: list[str]) -> bool:
    comparison = compare(values, groups, lower_is_better=True, comparisons=8)
    return comparison is not None and comparison.verdict in (Verdict.BETTER, Verdict.WORSE)


def draw(random: np.random.Generator, effects: Effects, count: int) -> tuple[NDArray[np.float64], list[str]]:
    """Differences of slices, and the group of each: its effect, and noise of each slice."""
    sizes = random.integers(1, 9, count)
    values = np.repeat(effects(random, count), sizes) + random.normal(size=sizes.sum())
    return values, np.repeat([str(n) for n in range(count)], sizes).tolist()


def percentile_bootstrap(random: np.random.Generator, values: NDArray[np.float64], groups: list[str]) -> tuple[float, float]:
    means = group_means(values, groups)
    resampled = means[random.integers(len(means), size=(RESAMPLES, len(means)))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
