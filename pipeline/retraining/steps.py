"""The steps of one retraining: look for new data, bring the stages up to date (one Prefect task each), decide, record."""

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.states import State

from pipeline import params, paths, presets
from pipeline.domain import DIRECTIONS
from pipeline.errors import UserError
from pipeline.retraining import champion, graph, history, sharing, summary, tell, workspace
from pipeline.retraining.graph import GraphUnreadable, StageFailed, StageResult
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import TrainingByHand, Workspace
from pipeline.sources.provenance import News, Provenance
from pipeline.sources.table import look
from pipeline.tracking import registry

Mode = Literal["if_changed", "always", "warm_start"]

TIMEOUT_MINUTES = {"train": 7 * 24 * 60.0}
OTHER_TIMEOUT_MINUTES = 120.0
YEAR_MINUTES = 365 * 24 * 60.0
AGAIN_SECONDS = [30.0, 120.0, 600.0]
START_FROM = "train.start_from"
BY_HAND = "a training that was started by hand is at work in this folder; the next run comes after it"


@task(task_run_name="{stage}")
def stage_task(stage: str, folder: Path, force: bool, timeout: float, env: dict[str, str]) -> StageResult:
    """Bring one stage up to date; its lines go to the run's log as they come, its count of steps to a progress artifact."""
    log, progress, secret = get_run_logger().info, tell.Progress(stage), params.load().data.folder

    def line(text: str) -> None:
        log(history.hide_folder(text, secret))
        progress.update(text)

    with _hiding(secret):
        return graph.run_stage(stage, folder, line, force=force, timeout=timeout, env=env)


@task(task_run_name="look for new data")
def look_task(used: Provenance | None) -> News:
    """Compare the source with the data in use."""
    data = params.load().data
    with _hiding(data.folder):
        news = look(data, used)
    get_run_logger().info(history.hide_folder(news.sentence, data.folder))
    return news


@dataclass
class Retraining:
    """One retraining: what it is to do, its workspace once there is one, and the record that it fills."""

    repo: Path
    record: Record
    branch: str | None
    approval_time: timedelta
    timeout_minutes: dict[str, float]
    again_seconds: list[float] | None
    share: bool = False
    work: Workspace | None = None
    data_folder: str | None = None

    def __post_init__(self) -> None:
        self.timeout_minutes = {**TIMEOUT_MINUTES, **self.timeout_minutes}
        again = AGAIN_SECONDS if self.again_seconds is None else self.again_seconds
        self.again: dict[str, Any] = {"retries": len(again), "retry_delay_seconds": again, "retry_condition_fn": _is_retryable}
        self.stages = graph.stage_names(self.repo)

    def run(self) -> None:
        """Everything between taking the lock and telling what happened. Raises UserError, StageFailed for a stage, TrainingByHand."""
        if self.branch:
            history.check_branch(self.repo, self.branch)
        if self.share:
            sharing.check(self.repo)
            sharing.bring_experiments(self.repo)
        try:
            self._run()
        except GraphUnreadable as error:  # what a killed process, or a full disk, left in the worktree
            self.record.notes.append(f"The worktree was made anew: {error}")
            self.record.stages.clear()
            workspace.discard(self.repo)
            self._run()

    def hide(self) -> None:
        """Take out of the record what a name of the data's folder may tell, and credentials."""
        with contextlib.chdir(self.repo):
            history.hide(self.record, self.data_folder)

    def _run(self) -> None:
        record = self.record
        self.work = work = workspace.prepare(self.repo)
        workspace.share_checkpoints(work)
        record.base, record.user_lock = work.base, history.continue_from(work)
        self.stages = graph.stage_names(work.folder)
        check_timeouts(self.timeout_minutes, self.stages)
        # From here on this process, which does nothing else, works in the worktree, where the project's own paths lead to.
        with contextlib.chdir(work.folder):
            _set(*record.settings)
            self.data_folder = params.load().data.folder
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
            if workspace.is_training(self.repo):
                raise TrainingByHand(BY_HAND)
            if self.share:
                sharing.bring_outputs(work.folder)
            missing = graph.checkout(work.folder)
            unchanged = list(itertools.takewhile(lambda stage: stage not in missing, unchanged))  # the cache lacks the outputs: made anew
            self._run_stages(work, unchanged, news.new, statistics)
            self._ask()
            record.ended = datetime.now().astimezone().isoformat(timespec="seconds")
            self.hide()
            record.commit = history.save(work, record, self.branch)
        if self.share:
            self._hand_on()

    def _hand_on(self) -> None:
        """What was decided stands; where it cannot be handed on now, a person, or DVC's own command, does it later."""
        record = self.record
        try:
            sharing.hand_on(self.repo, record.name)
        except UserError as error:
            record.notes.append(f"It could not be handed on: {error}. dvc exp push {sharing.GIT_REMOTE} {record.name} does it.")

    def _run_stages(self, work: Workspace, unchanged: list[str], new: bool, statistics: dict[str, Any]) -> None:
        record = self.record
        for stage in self.stages:
            if stage == "register" and stage not in unchanged:
                self._intend_to_register(work)
            self._bring_up(stage, work, stage in unchanged, record.mode == "always" or (stage == "download" and new))
            if stage == "validate" and stage not in unchanged:
                record.drift = summary.measure_drift(work.folder / paths.MANIFEST, statistics)
        before = record.champions if record.registering else registry.champions()  # none at all, in a new project
        summary.read_results(work.folder, record, before, registry.champions())
        record.registering = False

    def _intend_to_register(self, work: Workspace) -> None:
        """Write down what is about to be registered: a promotion of which nobody saw the end is reported by the next retraining."""
        record = self.record
        record.champions = registry.champions()
        record.weights = {direction.model_name: registry.weights_digest(direction) for direction in DIRECTIONS}
        summary.read_data(work.folder, record)
        record.registering = True
        self.hide()
        history.write(self.repo, record)

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
            try:
                result = run(stage, work.folder, force, 60 * minutes, {**work.env, "DVC_EXP_NAME": self.record.name})
            except StageFailed:
                if stage == "train" and workspace.is_training(self.repo):  # a person was faster
                    raise TrainingByHand(BY_HAND) from None
                raise
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
            record.outcome, record.promoted = "promoted", models
        for model in models:
            said = f"approval: {'yes' if yes else 'no'}" + (f" ({comment})" if comment else "")
            record.decisions[model] |= {"champion": yes, "notes": [*record.decisions[model]["notes"], said]}


def settle(record: Record, folder: Path) -> None:
    """Say in the record which models became champion by a register in the project `folder` of which nobody saw the end."""
    with contextlib.chdir(folder):
        now = registry.champions()
    record.promoted = [model for model, digest in record.weights.items() if now.get(model) == digest != record.champions.get(model)]
    record.registering = False


def report_interrupted(repo: Path, targets: list[str]) -> list[str]:
    """Record and tell what became of retrainings that ended while they registered; gives a sentence for each."""
    sentences = []
    for record in history.interrupted(repo):
        try:
            settle(record, repo)
        except UserError as error:
            sentences.append(f"{record.name} ended while it registered; what became of it cannot be told yet: {error}")
            continue
        record.outcome = "promoted" if record.promoted else "lost"
        record.notes.append("It ended while it registered. What became of it was looked up by the next retraining.")
        try:
            if work := workspace.left_behind(repo, record.base):
                record.commit = history.save(work, record, None)
        except UserError as error:
            record.notes.append(f"It could not be kept as an experiment: {error}")
        tell.publish(repo, record, [], None, targets)
        became = f"{' and '.join(record.promoted)} became champion" if record.promoted else "nothing was promoted"
        sentences.append(f"{record.name} ended while it registered: {became}.")
    return sentences


@contextlib.contextmanager
def _hiding(folder: str | None) -> Iterator[None]:
    """Prefect's server keeps the errors of tasks: raise them with a hash for the data's `folder`, caused by the one in clear."""
    try:
        yield
    except UserError as error:
        clear = UserError(str(error))
        error.args = (history.hide_folder(str(error), folder),)
        raise error from clear


def _set(*settings: str) -> None:
    presets.apply([], list(settings))


def _is_retryable(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether another attempt may help."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, UserError) and error.retryable


def check_timeouts(minutes: Mapping[str, float], stages: Collection[str]) -> None:
    """Raises UserError where a stage does not exist, or has no time at all."""
    if unknown := minutes.keys() - stages:
        raise UserError(f"timeout_minutes: {', '.join(sorted(unknown))}: no such stage; the stages are {', '.join(stages)}")
    if wrong := [f"{stage}: {limit:g}" for stage, limit in minutes.items() if not 0 < limit <= YEAR_MINUTES]:
        raise UserError(f"timeout_minutes: {', '.join(wrong)}: expected minutes above 0, at most a year of them")
