"""`ctmr retrain` and `ctmr history`: the flow run by hand, and what retrainings did."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.errors import UserError
from pipeline.retraining import history


def minutes(given: list[str] | None) -> dict[str, float]:
    """What `--timeout STAGE=MINUTES` says, by stage. Raises UserError where it is no number."""
    found = {}
    for stage, _, number in (part.partition("=") for part in given or []):
        try:
            found[stage] = float(number)
        except ValueError:
            raise UserError(f"--timeout {stage}={number}: expected STAGE=MINUTES, such as train=600") from None
    return found


def retrain_here(folder: Path, **parameters: Any) -> None:
    """Run the flow on the project in `folder` and print a table; raises what the flow failed with."""
    from pipeline.flow import retrain

    state: Any = retrain(folder, **parameters, return_state=True)
    if state.name == "Skipped":
        print(state.message)
        return
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome
    if not state.is_completed():
        raise UserError(f"the flow ended as {state.name}: {state.message}")
    if outcome.stages:
        table = Table("stage", "result", "seconds")
        for entry in outcome.stages:
            table.add_row(entry["stage"], entry["result"], f"{entry['seconds']:.1f}")
        Console().print(table)
    print(state.message)


def show_history(repo: Path) -> None:
    """Print the retrainings that did something, or failed at it (data, error, decision), and when one last looked in vain."""
    table = Table("retraining", "outcome", "data", "CT→MR error", "MR→CT error", "promoted", box=box.SIMPLE)
    known = history.all_records(repo)
    records = [record for record in known if record.outcome != "no change"]
    for record in records:
        errors = [_error(record.scores.get(direction, {})) for direction in ("ct_to_mr", "mr_to_ct")]
        promoted = ", ".join(model for model, decision in record.decisions.items() if decision["champion"] and record.outcome == "promoted")
        data = f"{history.describe(record.source)}: {history.counts(record.source)}" if record.source else "–"
        table.add_row(record.name, record.outcome, data, *errors, promoted or "–")
    console = Console()
    console.width = max(console.width, 150)  # a narrower table would cut its cells
    console.print(table if records else "no retrainings yet; ctmr retrain runs one")
    if looked := [record for record in known if record.outcome == "no change"]:
        print(f"looked and found nothing new: {len(looked)} times, the last one {looked[-1].began[:16].replace('T', ' ')}")


def _error(scores: dict[str, float]) -> str:
    name = next((name for name in ("mae", "cycle_mae") if name in scores), None)
    if name is None:
        return "–"
    return f"{scores[name]:.3f} [{scores.get(f'{name}_low', float('nan')):.3f}, {scores.get(f'{name}_high', float('nan')):.3f}]"
