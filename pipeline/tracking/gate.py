"""Whether a challenger may become champion: stated floors, each with its reason, from the scores of the evaluation.

Where the test slices have truth, the translation must beat copying the input, slice by slice, by more than chance. Without truth, what is
left when a slice is translated there and back must lie under a bound. Either way translations must differ as real slices do: a
generator that has collapsed gives the same picture for every input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.params import Floors

# What one looks at first: charts in MLflow, tables in summaries. The rest stands in metrics.json and the report.
HEADLINE = ("mae", "correlation", "ssim", "cycle_mae", "cycle_ssim", "spread")


@dataclass(frozen=True)
class Check:
    """One condition: its name, whether it holds, the sentence with the figures; of a comparison with the champion these as numbers too."""

    name: str
    passed: bool
    reason: str
    against: dict[str, Any] = field(default_factory=dict)


def scores_of(metrics: Mapping[str, Any], direction: str) -> dict[str, float]:
    """Every score of `direction` on the test slices with its interval, as the evaluation wrote them."""
    return {key: float(value) for key, value in metrics.get("test", {}).get(direction, {}).items() if isinstance(value, int | float)}


def floors(metrics: Mapping[str, Any], direction: str, bounds: Floors) -> list[Check]:
    """The conditions that `direction` must meet, in the order in which a person reads them."""
    scores = scores_of(metrics, direction)
    copying = metrics.get("baselines", {}).get("copy", {}).get(direction, {})
    paired = metrics.get("difference", {}).get("copy", {}).get(direction, {})
    checks = []
    if "mae" in scores and "mae" in copying:
        said = paired.get("mae_verdict", "not compared")
        figures = f"{_interval(scores, 'mae')}, copying the input {_interval(copying, 'mae')}"
        checks.append(Check("better than copying the input", said == "better", f"{said}: error against truth inside the head {figures}"))
    else:
        checks.append(_at_most("survives the way back", "cycle error", scores, "cycle_mae", bounds.cycle_mae))
        checks.append(_at_least("structure kept", "similarity after there and back", scores, "cycle_ssim", bounds.cycle_ssim))
    if "spread" in scores:
        checks.append(_at_least("no collapse", "spread of translations, relative to real slices", scores, "spread", bounds.spread))
    return checks


def data_check(drift: Mapping[str, Any]) -> list[Check]:
    """Whether the data is still like that of the reference that `quality.drift_reference` names, from drift.json; none without one."""
    if not drift.get("reference"):
        return []
    drifted = [f"{test['modality']} {test['measure']}" for test in drift["tests"] if test["drifted"]]
    reason = f"{len(drifted)} of {len(drift['tests'])} tests find a change" + (f": {', '.join(drifted)}" if drifted else "")
    return [Check("data within its bounds", not drift["drifted"], reason)]


def _at_most(name: str, what: str, scores: Mapping[str, float], key: str, bound: float) -> Check:
    if key not in scores:
        return Check(name, False, f"{what}: not scored")
    return Check(name, scores[key] <= bound, f"{what} {_interval(scores, key)}, at most {bound:g} allowed")


def _at_least(name: str, what: str, scores: Mapping[str, float], key: str, bound: float) -> Check:
    if key not in scores:
        return Check(name, False, f"{what}: not scored")
    return Check(name, scores[key] >= bound, f"{what} {_interval(scores, key)}, at least {bound:g} asked")


def _interval(scores: Mapping[str, float], key: str) -> str:
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return f"{scores[key]:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")
