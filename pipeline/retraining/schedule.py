"""`ctmr schedule`: the flow by schedule on one machine, with a Prefect server of its own where none is named."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import EntrypointType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled

from pipeline.errors import UserError, mask_credentials, say
from pipeline.processes import begin_service, group
from pipeline.retraining import history, own_server, server, tell, workspace
from pipeline.retraining.flow import retrain
from pipeline.retraining.graph import GRACE

POLL_SECONDS = 5.0
OVERDUE = timedelta(minutes=1)  # a run that is this late was due while the schedule or its server was away
EXAMPLE = "expected minute hour day month weekday, such as '0 3 * * 1'"


def serve_schedule(folder: Path, cron: str, timezone: str, port: int, **parameters: Any) -> None:
    """Serve the flow with the schedule `cron` in `timezone` until stopped. Raises UserError where one of them is none."""
    schedule = parse_schedule(cron, timezone)
    workspace.check_repository(folder)
    if branch := parameters.get("branch"):
        history.check_branch(folder, branch)
    begin_service()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # Ctrl-C, stopped, or the terminal was closed
        signal.signal(number, _interrupt)
    try:
        with own_server.prefect_server(folder, port), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            tell.check_blocks(parameters.get("notify") or [])
            name = f"{server.project_name(folder)}-schedule"
            given, kind = {"folder": str(folder), **parameters}, EntrypointType.MODULE_PATH
            # Prefect's types name a coroutine as well; here, outside of an event loop, both calls give their result.
            deployment: Any = retrain.to_deployment(name, schedule=schedule, entrypoint_type=kind, parameters=given)  # type: ignore[arg-type]
            page = mask_credentials(str(PREFECT_API_URL.value())).removesuffix("/api")
            say(f"{name}: {cron} ({timezone}), Prefect at {page}; Ctrl-C stops it")
            start_due_runs(deployment.apply(), lambda run: _execute(folder, run))
    except KeyboardInterrupt:
        say("the schedule is stopped, a retraining at work with it; the next one goes on from its checkpoint")


def parse_schedule(cron: str, timezone: str) -> CronSchedule:
    """Raises UserError for a line of other than five fields, one that never comes due, and an unknown time zone."""
    from prefect.server.schemas.schedules import CronSchedule as ServerSchedule

    if timezone not in available_timezones():
        raise UserError(f"--timezone {timezone}: no such time zone; expected a name such as Europe/Vienna or UTC")
    try:
        if len(cron.split()) != 5 and not cron.startswith("@"):
            raise ValueError(cron)
        schedule = CronSchedule(cron=cron, timezone=timezone)
    except ValueError:  # six fields would be read with seconds last, by others with seconds first
        raise UserError(f"--cron '{cron}': not a cron line; {EXAMPLE}") from None
    try:
        dates = asyncio.run(ServerSchedule(cron=cron, timezone=timezone).get_dates(1))
    except ValueError:
        dates = []
    if not dates:
        raise UserError(f"--cron '{cron}': no such day ever comes; {EXAMPLE}")
    return schedule


def start_due_runs(deployment: UUID, execute: Callable[[UUID], None]) -> None:
    """Hand the runs that are due to `execute`, one at a time, until interrupted, however long the server is away meanwhile.

    `Flow.serve` was tried. When the server does not answer for some four minutes it ends, and a retraining at work with it; when the server
    is back, it starts all that became due meanwhile at once.
    """
    away = False
    while True:
        try:
            with get_client(sync_client=True) as client:
                run = _next_due(client, deployment)
            if away:
                say("the Prefect server is back")
            away = False
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            if not away:
                say(f"the Prefect server does not answer ({type(error).__name__}); it is asked again until it does")
            run, away = None, True
        if run is None:
            time.sleep(POLL_SECONDS)
            continue
        try:
            execute(run)
        except OSError as error:  # no memory for a process, no room for a file
            say(f"a retraining cannot be started ({error}); it is tried again")
            time.sleep(POLL_SECONDS)


def _execute(folder: Path, run: UUID) -> None:
    """Prefect's own command for one run: a process group, so that it ends with this process, however this one ends."""
    command = [sys.executable, "-m", "prefect", "flow-run", "execute", str(run)]
    with group(command, folder, env={"PREFECT_API_URL": str(PREFECT_API_URL.value())}, capture=False, grace=GRACE + 10) as process:
        process.wait()


def _next_due(client: SyncPrefectClient, deployment: UUID) -> UUID | None:
    """The run that is due, None while none is; of several, those that are long overdue are marked as skipped, but for the last."""
    now = datetime.now(UTC)
    runs = client.get_scheduled_flow_runs_for_deployments([deployment], scheduled_before=now)
    due = sorted((run.expected_start_time, run.id) for run in runs if run.expected_start_time is not None)
    overdue = [(since, run) for since, run in due[:-1] if now - since > OVERDUE]
    for since, run in overdue:
        why = f"skipped: it was due at {since:%d %b %H:%M:%S} UTC, when nobody was there to start it"
        client.set_flow_run_state(run, Cancelled(name="Skipped", message=why), force=True)
    return due[len(overdue)][1] if due else None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
