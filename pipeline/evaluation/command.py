"""`ctmr evaluate PAIRS`: scores on registered pairs, as a table."""

import os
import re
from pathlib import Path

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.models.generator import CONTRASTS


def evaluate(pairs: Path, out: Path, model: Path, patient: str | None, contrast: str | None) -> None:
    """Score, write `out` and print a table of both directions. Raises UserError for whatever the user can mend."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.evaluation.metrics import SCORES
    from pipeline.evaluation.pairs import evaluate_pairs

    if contrast and contrast not in CONTRASTS:
        raise UserError(f"--contrast {contrast}: expected one of {', '.join(CONTRASTS)}")
    if patient:
        try:
            groups = re.compile(patient).groups
        except re.error as error:
            raise UserError(f"--patient {patient}: no regular expression ({error})") from None
        if groups != 1:
            raise UserError(f"--patient {patient}: needs one group in parentheses, the patient")
    pairs, out, model = pairs.resolve(), out.resolve(), model.resolve() if model.is_dir() else model
    os.chdir(paths.project_root())
    figures = evaluate_pairs(pairs, out, params.load(), model, patient, contrast)
    console = Console()
    for direction, test in figures["test"].items():
        table = Table(title=f"{direction}: {test['slices']} slices of {test['groups']} groups, inside the head")
        for column in ("method", *SCORES, "model is"):
            table.add_column(column, no_wrap=True)
        table.add_row("model", *(_cell(test, name) for name in SCORES), "")
        for method, scores in figures["baselines"].items():
            said = figures["difference"][method][direction].get("mae_verdict", "")
            table.add_row(method, *(_cell(scores[direction], name) for name in SCORES), said)
        console.print(table)
    print(f"see {out / paths.REPORT_HTML.name}")


def _cell(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return "–"
    return f"{scores[name]:.3f} [{scores[f'{name}_low']:.3f}, {scores[f'{name}_high']:.3f}]"
