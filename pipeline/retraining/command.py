"""`ctmr retrain`: the flow run from the command line, with a table of what each stage did."""

from pathlib import Path
from typing import cast

from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from pipeline.retraining.stages import StageResult
from pipeline.retraining.summary import WORDS


def retrain_here(folder: Path) -> None:
    """Run the flow on the project in `folder` and print a table; raises what the flow failed with."""
    from pipeline.flow import retrain

    state = retrain(folder, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    if not state.is_completed():
        raise UserError(f"the flow ended as {state.name}: {state.message}")
    table = Table("stage", "result", "seconds")
    for result in cast(list[StageResult], outcome):
        table.add_row(result.stage, WORDS[result.outcome], f"{result.seconds:.1f}")
    Console().print(table)
