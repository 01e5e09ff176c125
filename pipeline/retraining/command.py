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


def serve_schedule(folder: Path, cron: str) -> None:
    """Serve the flow with the schedule `cron` until stopped. Raises UserError when `cron` is none."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.client.schemas.schedules import CronSchedule

    from pipeline.flow import retrain

    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise UserError(f"--cron '{cron}': not a cron line; expected minute hour day month weekday, such as '0 3 * * 1'") from None
    limit = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    retrain.serve(name="retrain", cron=cron, parameters={"folder": str(folder)}, global_limit=limit, pause_on_shutdown=False)
