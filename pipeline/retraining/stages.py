"""One stage of the graph through `dvc repro --single-item`, with live output and a clear end."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO, Literal

import yaml

from pipeline.errors import UserError
from pipeline.processes import group, stop_group

Outcome = Literal["ran", "restored", "unchanged"]

LAST_LINES = 15
_DVC_FAILED = re.compile(r"^ERROR: failed to reproduce")
# What DVC advises about its lock file and remotes is for a person at work in the folder, not for a log.
_ADVICE = re.compile(r"^(To track the changes with git|To enable auto staging|Use `dvc push`|\s+(git add|dvc config) )")


@dataclass(frozen=True)
class StageResult:
    """What a stage did: ran, had its outputs restored from DVC's cache, or had nothing to do."""

    stage: str
    outcome: Outcome
    seconds: float


class StageFailed(UserError):
    """A stage ended with an error; `lines` are the last ones that the stage itself printed."""

    def __init__(self, stage: str, why: str, lines: list[str]) -> None:
        super().__init__(f"stage {stage} {why}")
        self.lines = lines


def order(folder: Path) -> list[str]:
    """Names of the stages in `folder`/dvc.yaml in the order written there, which is the order they run in."""
    return list(yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def unchanged(folder: Path, env: Mapping[str, str]) -> list[str]:
    """The stages, in their order, that have nothing to do before the first one that has; their outputs need not be there.

    DVC says which those are before it fails for want of outputs that a later stage would read; a true fault shows again when stages run.
    """
    found = []
    for line in tool([sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"], folder, env, check=False):
        if line.startswith("Stage '") and line.endswith("didn't change, skipping"):
            found.append(line.split("'")[1])
        elif line.startswith(("Running stage", "Stage '")):
            break
    return found


def checkout(folder: Path, env: Mapping[str, str]) -> None:
    """Bring outputs of the last retraining from DVC's cache; what the cache lacks is made anew by its stage."""
    tool([sys.executable, "-m", "dvc", "checkout", "--force", "--allow-missing", "-q"], folder, env)


def tool(command: list[str], folder: Path, env: Mapping[str, str], *, check: bool = True) -> list[str]:
    """Lines that `command` prints when run in `folder`. Raises UserError with its last one when it fails, unless `check` is off."""
    with group(command, folder, env=env) as process:
        assert process.stdout is not None
        lines = list(_lines(process.stdout))
        if process.wait() and check:
            last = (lines or ["it printed nothing"])[-1]
            raise UserError(last.removeprefix("error: ").removeprefix("ERROR: "))
    return lines


def run_stage(
    stage: str,
    folder: Path,
    log: Callable[[str], None],
    *,
    force: bool = False,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> StageResult:
    """Bring `stage` of the graph in `folder` up to date; every line that it prints goes to `log` as it comes.

    `timeout` in seconds. Raises StageFailed with the stage's last lines when it fails or takes longer. Whatever ends this call
    (an exception, a cancellation), the whole process group of DVC and the stage is stopped.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", stage, *(["--force"] if force else [])]
    began = time.monotonic()
    lines: deque[str] = deque(maxlen=LAST_LINES)
    outcome: Outcome = "unchanged"
    late = False
    with group(command, folder, env={"PYTHONUNBUFFERED": "1", **(env or {})}) as process:
        assert process.stdout is not None

        def too_late() -> None:
            nonlocal late
            late = True
            stop_group(process, grace=5)

        watch = Timer(timeout, too_late) if timeout else None
        if watch:
            watch.start()
        try:
            for line in _lines(process.stdout):
                if _ADVICE.match(line):
                    continue
                log(line)
                outcome = _outcome(line, stage, outcome)
                if not _DVC_FAILED.match(line):
                    lines.append(line)
            status = process.wait()
        finally:
            if watch:
                watch.cancel()
    if late:
        minutes = (timeout or 0) / 60
        advice = f'raise timeout_minutes, such as {{"{stage}": {2 * minutes:g}}}'
        raise StageFailed(stage, f"took longer than {minutes:g} minutes and was stopped; {advice}", list(lines))
    if status:
        raise StageFailed(stage, f"failed: {lines[-1].removeprefix('error: ') if lines else 'it printed nothing'}", list(lines))
    return StageResult(stage, outcome, time.monotonic() - began)


def _outcome(line: str, stage: str, so_far: Outcome) -> Outcome:
    if line.startswith(f"Running stage '{stage}'"):
        return "ran"
    if line.startswith(f"Stage '{stage}' is cached"):
        return "restored"
    return so_far


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines as they come; of a progress bar, which overwrites itself with carriage returns, each state is a line."""
    rest = b""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        *complete, rest = re.split(rb"[\r\n]+", rest + chunk)
        yield from (text for line in complete if (text := line.decode("utf-8", "replace").rstrip()))
    if text := rest.decode("utf-8", "replace").rstrip():
        yield text
