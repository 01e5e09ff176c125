"""The graph by DVC's own API: which stages have something to do, what its cache holds, one stage brought up to date.

A stage runs below a process of its own, `python -m pipeline.retraining.graph STAGE ANSWER`: a time-out or a cancelled retraining stops that
process and all below it, and DVC's API can be left in no other way. It leaves what became of the stage as JSON in the file ANSWER.
"""

import json
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from threading import TIMEOUT_MAX, Event, Timer
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import psutil
import yaml

from pipeline.errors import ERROR_FILE, UserError, read_error
from pipeline.params import flatten
from pipeline.processes import group, read_lines, stop_group

if TYPE_CHECKING:
    from dvc.repo import Repo

Outcome = Literal["ran", "restored", "unchanged"]

LAST_LINES = 15
GRACE = 25.0  # seconds in which a stage that is stopped may finish its step and save; Prefect kills a cancelled run after 30


@dataclass(frozen=True)
class StageResult:
    """What a stage did: ran, had its outputs restored from DVC's cache, or had nothing to do."""

    stage: str
    outcome: Outcome
    seconds: float


class GraphUnreadable(UserError):
    """DVC fails on the project itself: on dvc.yaml, or on its own files."""


class StageFailed(UserError):
    """A stage ended with an error; `lines` are the last ones that it printed."""

    def __init__(self, stage: str, why: str, lines: list[str], *, retryable: bool = False) -> None:
        super().__init__(f"stage {stage} {why}", retryable=retryable)
        self.lines = lines


def stage_names(folder: Path) -> list[str]:
    """The stages in `folder`/dvc.yaml in the order written there, which is the order they run in. Raises UserError where it has none."""
    file = folder / "dvc.yaml"
    try:
        return list(yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)["stages"])
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError) as error:
        raise UserError(f"{file}: no stages can be read from it ({error}); git diff dvc.yaml shows what was changed") from None


def unchanged_stages(folder: Path) -> list[str]:
    """The stages, in their order, that have nothing to do before the first one that has; their outputs need not be there."""
    names: list[str] = []
    with open_graph(folder) as dvc, dvc.lock:
        before: list[Any] = []
        for name in stage_names(folder):
            stage = load_stage(dvc, name)
            if _has_work(stage, before):
                break
            before.append(stage)
            names.append(name)
    return names


def read_cached_json(folder: Path, file: Path) -> dict[str, Any]:
    """`file`, an output of the graph or inside one, as dvc.lock has it, from DVC's cache or remote; empty when it is not there."""
    from dvc.repo.data import DataIndexDirError

    with open_graph(folder) as dvc:
        try:
            content: dict[str, Any] = json.loads(dvc.datafs.read_text(file.as_posix()))
        except (OSError, ValueError, DataIndexDirError):  # the last: of a folder whose list of files the cache has lost
            return {}
    return content


def read_locked_param(folder: Path, stage: str, key: str) -> Any:
    """The value of a param, by its dotted name, that `stage` last ran with; None where dvc.lock has none."""
    with open_graph(folder) as dvc:
        values = [dependency.hash_info.value for dependency in load_stage(dvc, stage).deps]
    # Those of params are dicts, by the names in dvc.yaml: train, or train.start_from.
    return next((flatten(value)[key] for value in values if isinstance(value, dict) and key in flatten(value)), None)


def checkout(folder: Path) -> list[str]:
    """Bring the outputs of the last retraining from DVC's cache; gives the stages of which the cache lacks some."""
    with open_graph(folder) as dvc:
        dvc.checkout(force=True, allow_missing=True)
    with open_graph(folder) as dvc, dvc.lock:
        return [name for name in stage_names(folder) if any(out.status() for out in load_stage(dvc, name).outs)]


def run_stage(
    stage: str, folder: Path, log: Callable[[str], None], *, force: bool = False, timeout: float = TIMEOUT_MAX, env: Mapping[str, str] = {}
) -> StageResult:
    """Bring `stage` of the graph in `folder` up to date; every line that it prints goes to `log` as it comes.

    `timeout` in seconds. Raises StageFailed with the stage's last lines when it fails or takes longer. Whatever ends this call
    (an exception, a cancellation), all processes of the stage are stopped, with time to save.
    """
    began, late = time.monotonic(), Event()
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with TemporaryDirectory(prefix="ctmr-stage-") as answers:
        answer, error = Path(answers) / "answer.json", Path(answers) / "error.json"
        # -P: this file as it runs here, not that of the worktree, which may be years old. The stage itself is the worktree's.
        command = [sys.executable, "-P", "-m", "pipeline.retraining.graph", stage, str(answer), *(["--force"] if force else [])]
        package = str(Path(__file__).parents[2])  # found by this, installed or not
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        told = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path, ERROR_FILE: str(error), **env}
        with group(command, folder, env=told, grace=GRACE) as process, _stopped_after(timeout, process, late):
            assert process.stdout is not None
            for line in read_lines(process.stdout):
                log(line)
                lines.append(line)
            process.wait()
        if late.is_set():
            advice = f'raise timeout_minutes, such as {{"{stage}": {timeout / 30:g}}}'
            raise StageFailed(stage, f"took longer than {timeout / 60:g} minutes and was stopped; {advice}", list(lines))
        facts = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
        if facts.get("outcome") is None:
            own = read_error(error)
            last = f"; its last line: {lines[-1]}" if lines else ""
            why = str(own or facts.get("reason") or f"it crashed or was killed{last}")  # our stages say what a user can mend
            raise StageFailed(stage, f"failed: {why}", list(lines), retryable=own is not None and own.retryable)
    return StageResult(stage, facts["outcome"], time.monotonic() - began)


@contextmanager
def _stopped_after(seconds: float, process: "Popen[bytes]", late: Event) -> Iterator[None]:
    """Stop the group of `process`, and set `late`, where the block takes longer than that."""

    def stop() -> None:
        late.set()
        stop_group(process, GRACE)

    watch = Timer(seconds, stop)
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


@contextmanager
def open_graph(folder: Path) -> Iterator["Repo"]:
    """DVC's view of the project in `folder`. Raises GraphUnreadable with DVC's own reason where DVC fails."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.data import DataIndexDirError

    for package in ("dvc", "dvc_data"):  # they warn of each output that is not there, which is asked here on purpose
        logging.getLogger(package).setLevel(logging.ERROR)
    try:
        with Repo(str(folder)) as dvc:
            yield dvc
    except (DvcException, DataIndexDirError, UnicodeDecodeError) as error:  # .dvcignore
        raise GraphUnreadable(f"{folder}: {_reason(error)}") from error


def load_stage(dvc: "Repo", name: str) -> Any:
    """DVC's view of a stage. Raises DvcException when the graph has none of this name."""
    return dvc.stage.load_one(path=str(Path(dvc.root_dir) / "dvc.yaml"), name=name)


def _has_work(stage: Any, before: list[Any]) -> bool:
    """Whether DVC would run `stage`, after the stages `before`; one that always runs, to look around, only where it is new or changed."""
    if stage.always_changed:
        return stage.changed_stage() or any(dep.status() for dep in stage.deps) or not all(out.hash_info for out in stage.outs)
    return bool(stage.changed(allow_missing=True, upstream=before))


def _reason(error: BaseException) -> str:
    """What DVC says is wrong, with the causes that it gives; empty where it is only that the stage failed."""
    from dvc.stage.exceptions import StageCmdFailedError

    reasons: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StageCmdFailedError):
            return ""
        if (text := " ".join(str(cause).split())) and text not in reasons:
            reasons.append(text)
        cause = cause.__cause__
    return ": ".join(reasons)


class _Course(logging.Handler):
    """Sees whether DVC runs a stage's command or restores its outputs.

    `Repo.reproduce` gives the stage back in both cases. `stage_cache.restore(dry=True)` was tried to foresee it: it answers for params and
    dependencies as they were last time. But each of the two parts of DVC has a logger of its own, which only speaks when it acts.
    """

    ACTS: ClassVar[dict[str, Outcome]] = {"dvc.stage.run": "ran", "dvc.stage.cache": "restored"}

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.outcome: Outcome = "unchanged"
        for name in self.ACTS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.INFO:
            self.outcome = self.ACTS[record.name]


def _check_cache(name: str) -> None:
    """Raises UserError when DVC's cache lacks outputs of the stage, also after they are handed to it again.

    Where the cache's disk is full, `dvc repro` ends well all the same; the outputs are lost with the next checkout.
    """
    from dvc.repo import Repo

    def lacking() -> list[str]:
        return [str(out) for out in load_stage(dvc, name).outs if out.changed_cache()]

    with Repo() as dvc, dvc.lock:
        if lacking():
            dvc.commit(name, force=True)
        if names := lacking():
            raise UserError(f"DVC's cache could not take {', '.join(names)}; free space on the disk of {dvc.cache.local_cache_dir}")


def _forward_stop(*_: object) -> None:
    """SIGTERM: hand it to the stage, and wait for its end; DVC then fails as with any stage that fails."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.terminate()


def main(arguments: list[str]) -> int:
    """The process that a stage runs below; see above."""
    from dvc.exceptions import DvcException

    name, answer = arguments[0], Path(arguments[1])
    signal.signal(signal.SIGTERM, _forward_stop)
    facts: dict[str, str] = {}
    try:
        from dvc.repo import Repo

        with Repo() as dvc:
            dvc.scm_context.quiet = True  # no advice on what to add to git
            course = _Course()
            dvc.reproduce(targets=name, single_item=True, force="--force" in arguments)
        if course.outcome != "restored":
            _check_cache(name)
        facts["outcome"] = course.outcome
    except (DvcException, OSError, UserError) as error:
        if reason := _reason(error):
            facts["reason"] = reason
    answer.write_text(json.dumps(facts), encoding="utf-8")
    return 0 if "outcome" in facts else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
