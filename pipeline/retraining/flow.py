"""The Prefect flow `retrain`: look for new data, run stages through DVC (one task each), decide, record, tell; never imports a stage."""

import contextlib
import logging
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.context import FlowRunContext
from prefect.runtime import deployment
from prefect.states import Completed, Failed, State

from pipeline import params, paths, presets
from pipeline.errors import UserError
from pipeline.processes import ends_with_parent
from pipeline.retraining import champion, graph, history, server, summary, tell, workspace
from pipeline.retraining.graph import StageFailed, StageResult
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import Busy, Workspace
from pipeline.sources.provenance import News, Provenance
from pipeline.sources.table import look
from pipeline.tables import print_table
from pipeline.tracking import registry

Mode = Literal["if_changed", "always", "warm_start"]

TIMEOUT_MINUTES = {"train": 7 * 24 * 60.0}
OTHER_TIMEOUT_MINUTES = 120.0
AGAIN_SECONDS = [30.0, 120.0, 600.0]
START_FROM = "train.start_from"


@task(task_run_name="{stage}")
def stage_task(stage: str, folder: Path, force: bool, timeout: float, env: dict[str, str]) -> StageResult:
    """Bring one stage up to date; its lines go to the run's log as they come, its count of steps to a progress artifact."""
    log, progress = get_run_logger().info, tell.Progress(stage)

    def line(text: str) -> None:
        log(text)
        progress.update(text)

    return graph.run_stage(stage, folder, line, force=force, timeout=timeout, env=env)


@task(task_run_name="look for new data")
def look_task(used: Provenance | None) -> News:
    """Compare the source with the data in use."""
    news = look(params.load().data, used)
    get_run_logger().info(news.sentence)
    return news


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
    """
    repo = (folder or paths.project_root()).resolve()
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    logging.getLogger("prefect.task_runs").addFilter(_drop_traceback)
    run, began = context.flow_run, datetime.now().astimezone()
    due = run.expected_start_time
    if run.auto_scheduled and due is not None and due.timestamp() < workspace.last_end(repo):
        return _skip(f"it was due at {due:%d %b %H:%M:%S} UTC, and another retraining ended after that")
    record = Record(f"retrain-{began:%Y%m%d-%H%M%S}", began.isoformat(timespec="seconds"), mode, settings=settings or [])
    retraining = Retraining(repo, record, branch, timedelta(hours=approval_hours), timeout_minutes or {}, again_seconds)
    try:
        # A worker that is killed takes its runs with it, so that the next one does not find a run that nobody can stop.
        with ends_with_parent() if deployment.id else nullcontext(), workspace.hold_lock(repo, f"{record.name}, since {began:%d %b %H:%M}"):
            record.notes += [f"An earlier retraining, {name}, was lost." for name in server.claim(run.id, record.name, repo)]
            try:
                retraining.run()
            except Exception as error:
                record.outcome, record.error = "failed", str(error)
                record.last_lines = error.lines if isinstance(error, StageFailed) else []
                if not isinstance(error, UserError):
                    raise
                get_run_logger().error(record.error)
                return Failed(message=summary.headline(record), data=error)
            finally:
                tell.publish(repo, record, retraining.stages, retraining.work, notify or [])
    except Busy as other:
        return _skip(f"another retraining is at work: {other}")
    return Completed(name=record.outcome.capitalize(), message=summary.headline(record), data=record)


class Retraining:
    """One retraining: what it is to do, its workspace once there is one, and the record that it fills."""

    def __init__(
        self,
        repo: Path,
        record: Record,
        branch: str | None,
        approval_time: timedelta,
        timeout_minutes: dict[str, float],
        again_seconds: list[float] | None,
    ) -> None:
        self.repo, self.record, self.branch, self.approval_time = repo, record, branch, approval_time
        self.timeout_minutes = {**TIMEOUT_MINUTES, **timeout_minutes}
        again = AGAIN_SECONDS if again_seconds is None else again_seconds
        self.again: dict[str, Any] = {"retries": len(again), "retry_delay_seconds": again, "retry_condition_fn": _is_retryable}
        self.work: Workspace | None = None
        self.stages: list[str] = graph.stage_names(repo)

    def run(self) -> None:
        """Everything between taking the lock and telling what happened. Raises UserError, and StageFailed for a stage."""
        record = self.record
        if self.branch:
            history.check_branch(self.repo, self.branch)
        self.work = work = workspace.prepare(self.repo)
        workspace.share_checkpoints(work)
        record.base, record.user_lock = work.base, history.continue_from(work)
        self.stages = graph.stage_names(work.folder)
        self._check_timeouts()
        # From here on this process, which does nothing else, works in the worktree, where the project's own paths lead to.
        with contextlib.chdir(work.folder):
            self._run_in(work)

    def _check_timeouts(self) -> None:
        if unknown := self.timeout_minutes.keys() - self.stages:
            raise UserError(f"timeout_minutes: {', '.join(sorted(unknown))}: no such stage; the stages are {', '.join(self.stages)}")
        if wrong := [f"{stage}: {minutes:g}" for stage, minutes in self.timeout_minutes.items() if not minutes > 0]:
            raise UserError(f"timeout_minutes: {', '.join(wrong)}: expected minutes above 0")

    def _run_in(self, work: Workspace) -> None:
        record = self.record
        _set(*record.settings)
        record.old_source = graph.read_cached_json(work.folder, paths.SOURCE_JSON)
        statistics = graph.read_cached_json(work.folder, paths.STATISTICS_JSON)
        news = look_task.with_options(**self.again)(Provenance.parse(record.old_source) if record.old_source else None)
        record.news = news.sentence
        _set(*(f"{name}={value}" for name, value in news.settings.items()))
        unchanged = self._unchanged(work, news.new)
        if len(unchanged) == len(self.stages):
            record.outcome, record.source = "no change", record.old_source
            return
        if not news.new and record.mode != "always":
            record.notes.append(f"Stages run from {self.stages[len(unchanged)]} on: params, code or starting weights changed.")
        graph.checkout(work.folder)
        before = registry.champions()
        for stage in self.stages:
            self._bring_up(stage, work, stage in unchanged, record.mode == "always" or (stage == "download" and news.new))
            if stage == "validate" and stage not in unchanged:
                record.drift = summary.measure_drift(work.folder / paths.MANIFEST, statistics)
        summary.read_results(work.folder, record, before, registry.champions())
        self._ask()
        record.ended = datetime.now().astimezone().isoformat(timespec="seconds")
        record.commit = history.save(work, record, self.branch)

    def _unchanged(self, work: Workspace, new: bool) -> list[str]:
        """The stages that need not run; sets where training starts from."""
        record, wanted = self.record, params.load().train.start_from
        last = graph.read_locked_param(work.folder, "train", START_FROM)
        if record.mode == "warm_start":
            place = champion.gather_weights()
            if place is None:
                record.notes.append("There is no champion to go on from yet: training starts afresh.")
            _set(f"{START_FROM}={place or 'null'}")
        elif wanted is None and last is not None:
            _set(f"{START_FROM}={last}")  # that the last one was a warm start is no reason to train
        unchanged = [] if new or record.mode == "always" else graph.unchanged_stages(work.folder)
        if record.mode != "warm_start" and len(unchanged) < len(self.stages):
            _set(f"{START_FROM}={wanted or 'null'}")
        return unchanged

    def _bring_up(self, stage: str, work: Workspace, unchanged: bool, force: bool) -> None:
        result = StageResult(stage, "unchanged", 0.0)
        if not unchanged:
            run = stage_task.with_options(**self.again) if stage == "download" else stage_task
            minutes = self.timeout_minutes.get(stage, OTHER_TIMEOUT_MINUTES)
            result = run(stage, work.folder, force, 60 * minutes, {**work.env, "DVC_EXP_NAME": self.record.name})
        self.record.stages.append({"stage": stage, "outcome": result.outcome, "seconds": round(result.seconds, 1)})

    def _ask(self) -> None:
        """Let a person decide where promotion is manual and a model passed the gate."""
        record = self.record
        models = summary.models_to_approve(record) if params.load().register_.promotion == "manual" else []
        if not models:
            return
        yes, comment = tell.ask_for_approval(record, self.approval_time)
        if yes:
            champion.promote_challengers({model: record.decisions[model]["weights"] for model in models})
            record.outcome = "promoted"
        for model in models:
            said = f"approval: {'yes' if yes else 'no'}" + (f" ({comment})" if comment else "")
            record.decisions[model] |= {"champion": yes, "notes": [*record.decisions[model]["notes"], said]}


def retrain_here(folder: Path, **parameters: Any) -> None:
    """`ctmr retrain`: run the flow on the project in `folder` and print a table; raises what the flow failed with."""
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
        rows = [(entry["stage"], summary.WORDS[entry["outcome"]], f"{entry['seconds']:.1f}") for entry in outcome.stages]
        print_table(("stage", "result", "seconds"), rows)
    print(state.message)


def parse_minutes(given: list[str] | None) -> dict[str, float]:
    """What `--timeout STAGE=MINUTES` says, by stage. Raises UserError where it is no number."""
    minutes = {}
    for stage, _, number in (part.partition("=") for part in given or []):
        try:
            minutes[stage] = float(number)
        except ValueError:
            raise UserError(f"--timeout {stage}={number}: expected STAGE=MINUTES, such as train=600") from None
    return minutes


def _set(*settings: str) -> None:
    presets.apply([], list(settings))


def _is_retryable(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether another attempt may help."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, UserError) and error.retryable


def _drop_traceback(record: logging.LogRecord) -> bool:
    """Leave the traceback out of the log line of an error that the user can mend."""
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        record.exc_info = None
    return True


def _skip(why: str) -> "State[Any]":
    get_run_logger().warning("skipped: %s", why)
    return Completed(name="Skipped", message=f"skipped: {why}")
