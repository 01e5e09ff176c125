"""An evaluation as tables on the terminal."""

from collections.abc import Mapping

from pipeline.domain import SCORES, Direction
from pipeline.evaluation.results import COMPARED, Evaluation, score_cell, score_label
from pipeline.tables import print_table


def print_scores(evaluation: Evaluation) -> None:
    """Two tables a direction with truth, the model beside the baselines: the errors with the verdicts, and the other scores."""
    metrics = evaluation.metrics
    for name, test in metrics["test"].items():
        direction = Direction(name)
        print(f"{direction.title}: {test['slices']} slices of {test['groups']} groups, inside the head, 95 % intervals")
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
