"""An evaluation as tables on the terminal."""

from pipeline.domain import SCORES, Direction, Interval
from pipeline.evaluation.results import COMPARED, Evaluation


def print_scores(evaluation: Evaluation) -> None:
    """A table a direction: the model beside the baselines."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    metrics = evaluation.metrics
    for direction, test in metrics["test"].items():
        title = f"{direction}: {test['slices']} slices of {test['groups']} groups, inside the head"
        table = Table("method", *(SCORES[name].name for name in COMPARED), "model is", title=title)
        table.add_row("model", *(_cell(test, name) for name in COMPARED), "")
        for method, scores in metrics["baselines"].items():
            verdict = metrics["difference"][method][Direction(direction)].get("mae_verdict", "")
            table.add_row(method, *(_cell(scores[direction], name) for name in COMPARED), verdict)
        console.print(table)


def _cell(scores: dict[str, float], name: str) -> str:
    return str(Interval.from_scores(scores, name)) if name in scores else "–"
