"""The promotion rule: what a model must show to become champion, and who says so. All of it stands here.

`checks` holds the conditions, `decide` the mode (`register.promotion`: auto, or manual, where only a person promotes). Both are pure: what
was measured comes in, facts come out, and `sentence` puts a fact into words where it is shown.

Where test slices have truth, the model must be better than each of BASELINES, slice by slice, by more than chance. Without truth, what is
left after translating there and back must lie under a bound. Either way translations must differ as real slices do, since a generator that
has collapsed gives the same picture for every input. And the model may not be worse than its rivals (the champion, and the best champion so
far) by more than `register.margin`: non-inferiority, judged by the upper end of the interval of the paired difference. The best champion
is a rival so that many small steps for the worse do not add up.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.domain import Interval
from pipeline.evaluation.intervals import ENOUGH_GROUPS, NonInferiority, Verdict
from pipeline.params import Register

CHAMPION, BEST = "champion", "best"
BASELINES = {"copy": "copying the input", "mean": "the mean picture", "histogram": "histogram matching"}
_RIVALS = {CHAMPION: "the champion", BEST: "the best champion so far"}
_LABELS = {
    **{f"better_than_{method}": f"better than {words}" for method, words in BASELINES.items()},
    **{f"not_worse_than_{role}": f"not worse than {words}" for role, words in _RIVALS.items()},
    "cycle_mae": "survives the way back",
    "cycle_ssim": "structure survives the way back",
    "spread": "no collapse",
    "data_drift": "data within its bounds",
}
_ALWAYS = ("name", "passed", "measured", "limit")


@dataclass(frozen=True)
class Comparison:
    """One model against a rival on the same test slices: mean errors over groups, and the test of their paired difference.

    `rival` holds the first digits of the digest of its weights. `problem` says why nothing was compared; the rest is None then.
    """

    rival: str
    error: float | None = None
    rival_error: float | None = None
    test: NonInferiority | None = None
    problem: str = ""


@dataclass(frozen=True)
class Check:
    """One condition. `measured` is held against `limit`; None where nothing could be measured, and `problem` says why.

    `low`, `high`: 95 % interval of `measured`. `rival`, `error`, `rival_error`: of a comparison, see `Comparison`;
    `groups`: how many groups of test slices it rests on.
    """

    name: str
    passed: bool
    measured: float | None
    limit: float
    low: float | None = None
    high: float | None = None
    rival: str = ""
    error: float | None = None
    rival_error: float | None = None
    groups: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Decision:
    """What was decided on a version: whether it was promoted, in which mode, and the checks behind it."""

    promoted: bool
    mode: str
    checks: Sequence[Check]

    def to_json(self) -> dict[str, Any]:
        """As versions.json and the registry keep it; facts that do not apply are left out."""
        stated = [
            {key: value for key, value in asdict(check).items() if key in _ALWAYS or value not in (None, "")} for check in self.checks
        ]
        return {"promoted": self.promoted, "mode": self.mode, "checks": stated}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Decision":
        """The decision that `to_json` gave. Raises KeyError or TypeError for anything else."""
        return cls(content["promoted"], content["mode"], [Check(**check) for check in content["checks"]])

    @property
    def failed(self) -> list[Check]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.passed]

    @property
    def waits(self) -> bool:
        """Whether every check passed and a person's word is waited for."""
        return self.mode == "manual" and not self.failed


def checks(
    metrics: Mapping[str, Any], drift: Mapping[str, Any], direction: str, rivals: Mapping[str, Comparison], params: Register
) -> list[Check]:
    """Every condition for `direction`, in the order in which a person reads them.

    `metrics`: reports/evaluate/metrics.json; `drift`: drift.json, or empty; `rivals`: comparisons by role (CHAMPION, BEST).
    """
    scores = test_scores(metrics, direction)
    found = []
    if "mae" in scores:
        found += [_better_than(method, metrics, direction) for method in BASELINES]
    else:
        found.append(_floor("cycle_mae", scores, params.floors.cycle_mae, at_most=True))
        found.append(_floor("cycle_ssim", scores, params.floors.cycle_ssim))
    if "spread" in scores:
        found.append(_floor("spread", scores, params.floors.spread))
    if drift.get("reference"):
        drifted = sum(bool(test["drifted"]) for test in drift["tests"])
        found.append(Check("data_drift", not drift["drifted"], drifted, 0))
    found += [_not_worse_than(role, comparison, params.margin) for role, comparison in rivals.items()]
    return found


def decide(checks: Sequence[Check], params: Register) -> Decision:
    """Promoted when every check passed and promotion is automatic."""
    return Decision(params.promotion == "auto" and all(check.passed for check in checks), params.promotion, checks)


def falls_short(decision: Decision | None, weights: str) -> bool:
    """Whether `decision` measured a larger error than that of the rival with these weights, which then stays the best so far."""
    checks = decision.checks if decision else []
    return any(check.rival != "" and weights.startswith(check.rival) and (check.measured or 0) > 0 for check in checks)


def basis(*facts: Any) -> str:
    """Digest of all that a decision rests on: the same facts decide nothing anew."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def test_scores(metrics: Mapping[str, Any], direction: str) -> dict[str, float]:
    """Every score of `direction` on the test slices with its interval, as the evaluation wrote them."""
    return {key: float(value) for key, value in metrics.get("test", {}).get(direction, {}).items() if isinstance(value, int | float)}


def label(check: Check) -> str:
    """The name of a condition for people."""
    return _LABELS[check.name]


def sentence(check: Check) -> str:
    """A condition in words, with its figures."""
    head = f"{label(check)}: {'yes' if check.passed else 'no'}"
    if check.measured is None:
        return f"{head} ({check.problem})"
    if check.name == "data_drift":
        return f"{head} (changes found: {check.measured:.0f})"
    if check.name in ("cycle_mae", "cycle_ssim", "spread"):
        bound = "at most" if check.name == "cycle_mae" else "at least"
        return f"{head} ({Interval(check.measured, check.low, check.high)}, {bound} {check.limit:g})"
    difference = Interval(check.measured, check.low, check.high, signed=True)
    parts = [f"difference of errors {difference}, its upper end must lie below {check.limit:g}"]
    if check.error is not None and check.rival_error is not None:
        parts.insert(0, f"error {check.error:.4f} against {check.rival_error:.4f}{f' of {check.rival}' if check.rival else ''}")
    if check.groups:
        parts.append(f"{check.groups} groups")
    if check.problem:
        parts.append(check.problem)
    return f"{head} ({'; '.join(parts)})"


def sentences(decision: Decision) -> list[str]:
    """The decision's conditions in words, and what is left for a person to do."""
    said = [sentence(check) for check in decision.checks]
    few = [check.groups for check in decision.failed if check.groups is not None and check.groups < ENOUGH_GROUPS]
    if few:
        said.append(
            f"with {max(few)} patients (groups of test slices) no model becomes champion by this rule, which needs {ENOUGH_GROUPS}; test on"
            " more of them, or decide by hand: ctmr promote"
        )
    return [*said, "every condition holds; a person decides: ctmr promote"] if decision.waits else said


def _better_than(method: str, metrics: Mapping[str, Any], direction: str) -> Check:
    """Whether the paired difference of errors (ours minus the baseline's) is below zero beyond chance."""
    name = f"better_than_{method}"
    paired = metrics.get("difference", {}).get(method, {}).get(direction, {})
    if "mae" not in paired:
        return Check(name, False, None, 0, problem="not compared")
    verdict = Verdict(paired["mae_verdict"])
    error, rival_error = (by.get(direction, {}).get("mae") for by in (metrics["test"], metrics.get("baselines", {}).get(method, {})))
    problem = str(verdict) if verdict in (Verdict.NO_DIFFERENCE, Verdict.TOO_FEW) else ""
    measured, groups = Interval.from_scores(paired, "mae"), metrics["test"][direction].get("groups")
    return Check(name, verdict is Verdict.BETTER, measured.mean, 0, measured.low, measured.high, "", error, rival_error, groups, problem)


def _not_worse_than(role: str, comparison: Comparison, margin: float) -> Check:
    """Whether the whole interval of the difference to a rival lies below the margin."""
    name, test = f"not_worse_than_{role}", comparison.test
    if test is None:
        return Check(name, False, None, margin, rival=comparison.rival, problem=comparison.problem)
    problem = str(Verdict.TOO_FEW) if test.groups < ENOUGH_GROUPS or test.difference.high is None else ""
    measured, rival = test.difference, (comparison.rival, comparison.error, comparison.rival_error)
    return Check(name, test.passed, measured.mean, margin, measured.low, measured.high, *rival, test.groups, problem)


def _floor(name: str, scores: Mapping[str, float], limit: float, *, at_most: bool = False) -> Check:
    if name not in scores:
        return Check(name, False, None, limit, problem="not scored")
    passed = scores[name] <= limit if at_most else scores[name] >= limit
    return Check(name, passed, scores[name], limit, scores.get(f"{name}_low"), scores.get(f"{name}_high"))
