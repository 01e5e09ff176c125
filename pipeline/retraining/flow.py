"""The Prefect flow `retrain`, and `ctmr retrain`, which runs it by hand; never imports a stage."""

import logging
import os
import signal
from contextlib import nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, tags
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogHandler
from prefect.runtime import deployment
from prefect.states import Completed, Failed, State

from pipeline import paths
from pipeline.errors import UserError, as_user_error
from pipeline.processes import ends_with_parent
from pipeline.retraining import history, own_server, prune, server, summary, tell, workspace
from pipeline.retraining.graph import StageFailed, stage_names
from pipeline.retraining.history import Record
from pipeline.retraining.steps import Mode, Retraining, check_timeouts, report_interrupted, settle
from pipeline.retraining.workspace import Busy, TrainingByHand
from pipeline.tables import print_table


@flow(name="retrain")
def retrain(
    folder: Path | None = None,
    mode: Mode = "if_changed",
    settings: list[str] | None = None,
    notify: list[str] | None = None,
    branch: str | None = None,
    approval_hours: float = 72,
    timeout_minutes: dict[str, float] | None = None,
    again_seconds: list[float] | None = None,
    keep: int | None = None,
    share: bool = False,
) -> "State[Record]":
    """Retrain the project in `folder`, in a worktree of its own, where there is reason to.

    Args:
        folder: The project. Default: the one around the working folder.
        mode: if_changed: train when data, params or code changed. always: run every stage. warm_start: as if_changed, but training goes
            on from the champions' weights, and a new champion is reason to train as well.
        settings: Changes to params.yaml for this retraining, such as train.images=500.
        notify: Who hears how it ended: http(s) addresses (POST of JSON), and Prefect blocks as TYPE/NAME, such as slack-webhook/team.
        branch: A branch on which the retraining is committed as well.
        approval_hours: With register.promotion manual: how long a person may take to approve.
        timeout_minutes: Longest time for a stage, by its name, such as {"train": 0.5}; default 120, for train a week.
        again_seconds: Waits before a source that cannot be reached is tried again; default 30, 120 and 600.
        keep: How many of the newest retrainings stay whole; what older ones left is removed afterwards, as `ctmr prune` does. None: all.
        share: Bring the retrainings of other machines first, and hand this one on: by git's remote origin, outputs by DVC's default remote.
    """
    repo = (folder or paths.project_root()).resolve()
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    logging.getLogger("prefect.task_runs").addFilter(_drop_traceback)
    for name in ("flow_runs", "engine"):
        logging.getLogger(f"prefect.{name}").addFilter(_is_unexpected)
    run, began = context.flow_run, datetime.now().astimezone()
    due = run.expected_start_time
    if run.auto_scheduled and due is not None and due.timestamp() < workspace.last_end(repo):
        return _skip(f"it was due at {due:%d %b %H:%M:%S} UTC, and another retraining ended after that")
    record = Record(f"retrain-{began:%Y%m%d-%H%M%S}", began.isoformat(timespec="seconds"), mode, settings=settings or [])
    retraining = Retraining(repo, record, branch, timedelta(hours=approval_hours), timeout_minutes or {}, again_seconds, share)
    try:
        # A worker that is killed takes its runs with it, so that the next one does not find a run that nobody can stop.
        with ends_with_parent() if deployment.id else nullcontext(), workspace.hold_lock(repo, f"{record.name}, since {began:%d %b %H:%M}"):
            record.notes += [f"An earlier retraining, {name}, was lost." for name in server.claim(run.id, record.name, repo)]
            record.notes += report_interrupted(repo, notify or [])
            state = _run(retraining, notify or [])
            if keep is not None and record.commit:
                _prune(repo, keep)
            return state
    except TrainingByHand as other:
        return _skip(str(other))
    except Busy as other:
        return _skip(f"another retraining is at work: {other}")
    except Exception as error:
        if (mendable := as_user_error(error)) is None:
            raise
        get_run_logger().error(str(mendable))
        return Failed(message=str(mendable), data=mendable)


def _run(retraining: Retraining, targets: list[str]) -> "State[Any]":
    """Run it and tell how it ended. Raises what is no fault that the user can mend."""
    record = retraining.record
    try:
        retraining.run()
    except TrainingByHand:
        record.outcome = "skipped"
        raise
    except Exception as error:
        mendable = as_user_error(error)
        record.outcome, record.error = "failed", str(mendable or error)
        record.last_lines = error.lines if isinstance(error, StageFailed) else []
        if record.registering and retraining.work:
            with suppress(UserError):  # the store is away: the next retraining looks
                settle(record, retraining.work.folder)
        if mendable is None:
            raise
        retraining.hide()
        get_run_logger().error(record.error)
        return Failed(message=summary.headline(record), data=mendable)
    finally:
        if record.outcome != "skipped":
            retraining.hide()
            tell.publish(retraining.repo, record, retraining.stages, retraining.work, targets)
    return Completed(name=record.outcome.capitalize(), message=summary.headline(record), data=record)


def _prune(repo: Path, keep: int) -> None:
    """Remove what old retrainings left. A fault in that is a warning: the retraining is done."""
    try:
        unneeded = prune.find_unneeded(repo, keep)
        prune.remove(repo, unneeded)
        get_run_logger().info("pruned:\n%s", unneeded)
    except (UserError, OSError) as error:
        get_run_logger().warning("not pruned: %s", error)


def retrain_here(folder: Path, **parameters: Any) -> None:
    """`ctmr retrain`: run the flow on the project in `folder` and print a table; raises what the flow failed with."""
    workspace.check_repository(folder)  # before a server is started for nothing
    if branch := parameters.get("branch"):
        history.check_branch(folder, branch)
    _stop_orderly()
    try:
        with own_server.prefect_server(folder):
            try:
                tell.check_blocks(parameters.get("notify") or [])
                with tags(*server.name_process(folder)):
                    state: Any = retrain(folder, **parameters, return_state=True)
            finally:
                APILogHandler().flush()  # while there is a server to take them
    except (KeyboardInterrupt, TerminationSignal):
        raise UserError("stopped; training left a checkpoint where it had begun, from which the next ctmr retrain goes on") from None
    if state.name == "Skipped":
        print(state.message)
        return
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, BaseException):
        raise outcome.__cause__ if isinstance(outcome.__cause__, UserError) else outcome  # in clear, see steps._hiding
    if not state.is_completed():
        raise UserError(f"the flow ended as {state.name}: {state.message}")
    if outcome.stages:
        rows = [(entry["stage"], summary.WORDS[entry["outcome"]], f"{entry['seconds']:.1f}") for entry in outcome.stages]
        print_table(("stage", "result", "seconds"), rows)
    print(state.message)


def _stop_orderly() -> None:
    """Ctrl-C, SIGTERM and a closed terminal end the flow once and leave it the time to save; a third Ctrl-C ends it at once."""
    asked = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KeyboardInterrupt
        if asked > 2 and number == signal.SIGINT:
            os._exit(130)  # all that this process started ends with it
        if number == signal.SIGINT:
            os.write(2, b"stopping, with a checkpoint; Ctrl-C once more ends it without\n")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def parse_minutes(given: list[str] | None, folder: Path) -> dict[str, float]:
    """What `--timeout STAGE=MINUTES` says, by stage of the project in `folder`. Raises UserError where it is no time or no stage."""
    minutes = {}
    for stage, _, number in (part.partition("=") for part in given or []):
        try:
            minutes[stage] = float(number)
        except ValueError:
            raise UserError(f"--timeout {stage}={number}: expected STAGE=MINUTES, such as train=600") from None
    check_timeouts(minutes, stage_names(folder))
    return minutes


def _drop_traceback(record: logging.LogRecord) -> bool:
    """Leave the traceback out of the log line of an error that the user can mend."""
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        record.exc_info = None
    return True


def _is_unexpected(record: logging.LogRecord) -> bool:
    """False for what Prefect says, with a traceback, of a run that ended by an error that the user can mend."""
    return not (record.exc_info and isinstance(record.exc_info[1], UserError))


def _skip(why: str) -> "State[Any]":
    get_run_logger().warning("skipped: %s", why)
    return Completed(name="Skipped", message=f"skipped: {why}")
