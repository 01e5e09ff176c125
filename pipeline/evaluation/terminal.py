"""An evaluation as tables on the terminal."""

from collections.abc import Mapping
from typing import Any

from pipeline.domain import SCORES, Direction
from pipeline.evaluation.results import COMPARED, Evaluation, score_cell, score_label
from pipeline.evaluation.volume_pairs import ERROR
from pipeline.evaluation.volume_scores import VOLUME_SCORES
from pipeline.tables import print_table


def print_scores(evaluation: Evaluation) -> None:
    """Two tables a direction with truth, the model beside the baselines: the errors with the verdicts, and the other scores."""
    metrics = evaluation.metrics
    for name, test in metrics["test"].items():
        direction = Direction(name)
        print(f"{direction.arrow}: {test['slices']} slices of {test['groups']} groups, inside the head, 95 % intervals")
        if COMPARED[0] not in test:
            print_table(("score", "model"), [(SCORES[score].label, score_cell(test, score)) for score in ("cycle_mae", "cycle_ssim")])
            continue
        methods: list[tuple[str, Mapping[str, float], str]] = [("model", test, "")]
        for method, scores in metrics["baselines"].items():
            verdict = metrics["difference"][method][direction].get("mae_verdict", "")
            methods.append((method, scores[direction], verdict))
        first, *others = COMPARED
        rows = [(method, score_cell(scores, first), verdict) for method, scores, verdict in methods]
        print_table(("method", score_label(first), "the model is"), rows)
        cells = [(method, *(score_cell(scores, score) for score in others)) for method, scores, _ in methods]
        print_table(("method", *map(score_label, others)), cells)
    for name, volumes in metrics.get("volumes", {}).items():
        print_volumes(Direction(name), volumes)


def print_volumes(direction: Direction, volumes: Mapping[str, Any]) -> None:
    """The model and trivial methods side by side, a row a score, and what a person should know of single pairs."""
    test, baselines = volumes["test"], volumes["baselines"]
    print(f"{direction.arrow}: {test['pairs']} volumes of {test['groups']} groups, in the body, 95 % intervals")
    rows = [(score_label(name), *(score_cell(scores, name) for scores in (test, *baselines.values()))) for name in VOLUME_SCORES]
    rows.append(("the model is", "", *(volumes["difference"].get(name, {}).get(f"{ERROR}_verdict", "–") for name in baselines)))
    print_table(("score", "model", *baselines), rows)
    for pair, warning in volumes["warnings"].items():
        print(f"warning: {pair}: {warning}")
