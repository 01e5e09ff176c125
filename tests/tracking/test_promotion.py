"""The promotion rule: what passes, what does not, and in which words."""

from typing import Any

import numpy as np
import pytest

from pipeline import params, paths
from pipeline.domain import Direction, Interval
from pipeline.evaluation.intervals import NonInferiority, Verdict
from pipeline.tracking import promotion
from pipeline.tracking.contest import Errors, pair
from pipeline.tracking.promotion import Check, Comparison, Decision
from tests.tracking import projects

RULE = params.load(projects.SOURCE / paths.PARAMS).register_


def judge(metrics: dict[str, Any], *, drift: dict[str, Any] | None = None, **rivals: Comparison) -> Decision:
    return promotion.decide(promotion.checks(metrics, drift or {}, Direction.CT_TO_MR, rivals, RULE), RULE)


def failed(decision: Decision) -> list[str]:
    return [check.name for check in decision.failed]


def against(difference: Interval) -> Comparison:
    enough = difference.high is not None
    passed = enough and difference.high < RULE.margin
    return Comparison("abcd1234", 0.2, 0.2 - difference.mean, NonInferiority(difference, 12 if enough else 3, passed))


def test_good_scores_pass_and_are_promoted() -> None:
    decision = judge(projects.good())
    assert decision.promoted
    assert failed(decision) == []


def test_collapse_and_being_no_better_than_the_input_fail() -> None:
    decision = judge(projects.bad())
    assert not decision.promoted
    assert {"better_than_copy", "spread"} <= set(failed(decision))


def test_without_truth_the_way_back_is_judged() -> None:
    passing = {"test": {"ct_to_mr": {"cycle_mae": 0.1, "cycle_ssim": 0.5, "spread": 0.5}}}
    assert judge(passing).promoted
    failing = {"test": {"ct_to_mr": {"cycle_mae": 0.2, "cycle_ssim": 0.3, "spread": 0.5}}}
    assert failed(judge(failing)) == ["cycle_mae", "cycle_ssim"]
    assert failed(judge({"test": {"ct_to_mr": {"spread": 0.5}}})) == ["cycle_mae", "cycle_ssim"]  # not scored is not passed


@pytest.mark.parametrize(
    ("difference", "passes"),
    [
        (Interval(-0.02, -0.03, -0.01), True),  # better
        (Interval(0.001, -0.002, 0.004), True),  # perhaps worse, but by less than the margin
        (Interval(0.003, -0.001, 0.007), False),  # no difference shown, but it may be worse by more than the margin
        (Interval(0.02, 0.01, 0.03), False),  # worse
        (Interval(-0.02), False),  # too few groups for an interval
    ],
)
def test_the_upper_end_of_the_difference_decides(difference: Interval, passes: bool) -> None:
    for role in ("champion", "best"):
        decision = judge(projects.good(), **{role: against(difference)})
        assert (failed(decision) == []) == passes
        assert decision.promoted == passes


def test_below_six_patients_it_says_that_none_becomes_champion() -> None:
    metrics = projects.good()
    for direction in Direction:
        metrics["test"][direction]["groups"] = 3
        for baseline in promotion.BASELINES:
            metrics["difference"][baseline][direction]["mae_verdict"] = str(Verdict.TOO_FEW)
    decision = judge(metrics)
    assert not decision.promoted
    assert failed(decision) == ["better_than_copy", "better_than_mean", "better_than_histogram"]
    said = promotion.sentences(decision)
    assert all("3 groups; too few patients to tell" in line for line in said[:3])
    assert said[-1].startswith("with 3 patients (groups of test slices) no model becomes champion by this rule, which needs 6;")
    metrics["test"]["ct_to_mr"]["groups"] = 6
    assert not any("no model becomes champion" in line for line in promotion.sentences(judge(metrics)))


def test_what_could_not_be_compared_fails_and_says_why() -> None:
    decision = judge(projects.good(), champion=Comparison("abcd1234", problem="not compared: it is away"))
    assert failed(decision) == ["not_worse_than_champion"]
    assert promotion.sentences(decision)[-1] == "not worse than the champion: no (not compared: it is away)"


def test_drifted_data_fails() -> None:
    drift = {"reference": "a.json", "drifted": True, "tests": [{"drifted": True}, {"drifted": False}]}
    decision = judge(projects.good(), drift=drift)
    assert decision.failed == [Check("data_drift", False, 1, 0)]


def test_manual_waits_for_a_person() -> None:
    manual = RULE.model_copy(update={"promotion": "manual"})
    checks = promotion.checks(projects.good(), {}, Direction.CT_TO_MR, {}, RULE)
    decision = promotion.decide(checks, manual)
    assert not decision.promoted
    assert decision.waits
    assert not promotion.decide(promotion.checks(projects.bad(), {}, Direction.CT_TO_MR, {}, RULE), manual).waits


def test_facts_survive_json_and_become_sentences() -> None:
    decision = judge(projects.good(), champion=against(Interval(0.0, 0.0, 0.0)))
    again = Decision.from_json(decision.to_json())
    assert again == decision
    assert all({"name", "passed", "measured", "limit"} <= check.keys() for check in decision.to_json()["checks"])
    said = promotion.sentences(again)
    assert "no collapse: yes (0.800, at least 0.3)" in said
    assert said[-1] == (
        "not worse than the champion: yes (error 0.2000 against 0.2000 of abcd1234;"
        " difference of errors +0.0000 [+0.0000, +0.0000], its upper end must lie below 0.005; 12 groups)"
    )


def season(step: float, seed: int, challengers: int = 20, groups: int = 30) -> list[float]:
    """Errors of the champions, one after the other, when each challenger is truly worse than its champion by `step`.

    Models of one recipe that differ by their seed differ by some 0.004 from patient to patient.
    """
    g = np.random.default_rng(seed)
    names = [str(number) for number in range(groups)]
    errors = {"first": (0.15, g.normal(0, 0.004, groups))}
    champion = best = "first"
    champions = [0.15]
    for number in range(challengers):
        name = f"challenger {number}"
        errors[name] = (errors[champion][0] + step, g.normal(0, 0.004, groups))
        slices = {who: Errors(mean + differs, np.ones(groups, bool), names) for who, (mean, differs) in errors.items()}
        rivals = {"champion": pair(slices[name], slices[champion], champion, RULE.margin)}
        if best != champion:
            rivals["best"] = pair(slices[name], slices[best], best, RULE.margin)
        decision = judge(projects.good(), **rivals)
        if decision.promoted:
            best = best if promotion.falls_short(decision, best) else name
            champion = name
            champions.append(errors[name][0])
    return champions


def test_many_small_steps_for_the_worse_do_not_add_up() -> None:
    """Without the best champion as a rival nearly all of 20 would be promoted, and the error would reach 0.21."""
    seasons = [season(0.003, seed) for seed in range(100)]
    assert np.mean([champions[-1] < 0.15 + RULE.margin for champions in seasons]) > 0.95
    assert max(champions[-1] for champions in seasons) <= 0.156  # two steps: by chance, in one of some hundred tries
    assert max(len(champions) for champions in seasons) <= 3  # the first one and two of 20 challengers


def test_better_and_equal_models_become_champion() -> None:
    assert np.mean([len(season(-0.003, seed, challengers=5)) == 6 for seed in range(40)]) > 0.9
    assert np.mean([len(season(0.0, seed, challengers=1)) == 2 for seed in range(100)]) > 0.9
