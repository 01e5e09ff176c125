"""Everything by which people and a retraining learn of each other: report file, Prefect's UI, notifications, a person's approval."""

import base64
import inspect
import io
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run

from pipeline import atomic
from pipeline.errors import UserError, say
from pipeline.retraining import history, server, summary
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import Workspace
from pipeline.tracking import store

if TYPE_CHECKING:
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.webhook import Webhook

WIDEST = 720  # pixels of the sample grid in the Prefect UI
WEBHOOK_SECONDS = 20
PROGRESS_SECONDS = 2.0  # between updates of a progress bar
MARGIN = 300  # seconds by which Prefect would wait longer: it fails runs whose pause ran out, so the answer "no" is given before
_COUNT = re.compile(r"\bstep (\d+) of (\d+)\b")


class Approval(RunInput):
    """What a person says of a model that passed the gate."""

    promote: bool
    comment: str = ""


class Progress:
    """A stage's count of steps as a progress bar in the Prefect UI, from the first line that counts on."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None
        self._updated = 0.0

    def update(self, line: str) -> None:
        """Bring the bar up to date with `line`; a server that is away misses an update, nothing else happens."""
        count = _COUNT.search(line)
        if count is None or not int(count[2]):
            return
        step, steps = int(count[1]), int(count[2])
        if step < steps and time.monotonic() - self._updated < PROGRESS_SECONDS:
            return
        self._updated = time.monotonic()
        share, words = 100.0 * step / steps, f"{self._stage}: step {step} of {steps}"
        try:
            if self._artifact is None:
                created: Any = create_progress_artifact(share, key=f"{self._stage}-progress", description=words)
                self._artifact = created
            else:
                update_progress_artifact(self._artifact, share, description=words)
        except Exception as error:  # any fault of the server; the stage itself is not to suffer
            say(f"no progress bar ({type(error).__name__})")


def publish(repo: Path, record: Record, stages: list[str], work: Workspace | None, targets: list[str]) -> None:
    """Write reports/retrain/<time>.md and, unless the run is being stopped, show it in the Prefect UI and notify."""
    record.ended = record.ended or datetime.now().astimezone().isoformat(timespec="seconds")
    folder = history.write(repo, record)
    links = summary.copy_report(work.folder, folder) if work is not None and record.decisions else {}
    picture = links.pop("samples", "")
    if work is not None and record.error:
        links["files that the error names, until the next retraining"] = f"in {work.folder}"
    links |= _mlflow_links(repo, record)
    file = folder.with_suffix(".md")
    with atomic.new_file(file) as beside:
        beside.write_text(summary.markdown(record, stages, f"{folder.name}/samples.png" if picture else "", links), encoding="utf-8")
    if record.outcome == "cancelled":
        return
    text = summary.markdown(record, stages, _embed(Path(picture)) if picture else "", {**links, "this summary": str(file)})
    create_markdown_artifact(text, key=f"retrain-summary-{server.project_name(repo)}", description=summary.headline(record))
    notify(record, summary.markdown(record, stages, "", links), targets, get_run_logger().warning)


def check_targets(targets: Sequence[str]) -> None:
    """Raises UserError where one is neither an address nor the name of a block. Asks nobody: blocks are the server's, see check_blocks."""
    for target in targets:
        try:
            place = urlsplit(target)
            good = bool(place.hostname and httpx.URL(target)) if _is_address(target) else bool(re.fullmatch(r"[a-z0-9-]+/[^/\s]+", target))
            good = good and place.port != 0  # a port that is none is a ValueError
        except (ValueError, httpx.InvalidURL):
            good = False
        if not good:
            raise UserError(f"--notify {target}: expected an http(s) address, or TYPE/NAME of a Prefect block, such as slack-webhook/team")


def check_blocks(targets: Sequence[str]) -> None:
    """Raises UserError where the Prefect server in use has no such block, or one that cannot notify."""
    for target in targets:
        try:
            if not _is_address(target):
                _load_block(target)
        except Exception as error:  # of Prefect's, or of the block's own package
            # What else is wrong may be said with the block's secrets.
            absent, other = "the Prefect server has none of this name; make it in its UI", f"it cannot be used ({type(error).__name__})"
            reason = absent if "Unable to find" in str(error) else other
            raise UserError(f"--notify {target}: expected a Prefect block that notifies; {reason}") from None


def notify(record: Record, text: str, targets: list[str], log: Callable[[str], None]) -> None:
    """Send `text` (the summary) to each target: an http(s) address, which gets JSON, or TYPE/NAME of a Prefect block.

    A target that cannot be reached is logged, and changes nothing about the retraining.
    """
    subject = summary.headline(record)
    content = {"subject": subject, "text": text, "name": record.name, "outcome": record.outcome, "error": record.error}
    for number, target in enumerate(targets, 1):
        try:
            if _is_address(target):
                httpx.post(target, json=content, timeout=WEBHOOK_SECONDS).raise_for_status()
            else:
                _notify_block(target, subject, text, content)
        except Exception as error:  # whatever a chat service or a block raises, the retraining is done
            # The address may hold a secret: say which one, not what it is.
            log(f"warning: notification {number} was not sent ({type(error).__name__})")


def ask_for_approval(record: Record, limit: timedelta) -> tuple[bool, str]:
    """(whether to promote, the person's comment); (False, "nobody answered ...") when nobody resumes the run within `limit`.

    The flow pauses with the comparison in view.
    """
    run_id, late = UUID(str(flow_run.id)), threading.Event()

    def answer_late() -> None:
        late.set()
        resume_flow_run(run_id, run_input={"promote": False, "comment": ""})

    seconds = limit.total_seconds()
    timer = threading.Timer(seconds, answer_late)
    timer.daemon = True
    timer.start()
    comparison = summary.markdown(replace(record, outcome="waiting"), [], "", _mlflow_links(Path(), record))
    try:
        question: Any = Approval.with_initial_data(description=comparison, promote=False)
        answer = pause_flow_run(wait_for_input=question, timeout=int(seconds) + MARGIN, poll_interval=2)
    finally:
        timer.cancel()
    if late.is_set():
        return False, f"nobody answered within {limit}"
    return answer.promote, answer.comment


def _mlflow_links(repo: Path, record: Record) -> dict[str, str]:
    """The run's page and the comparison of all runs; none where training could not reach the store.

    As links with words: Prefect's UI shows the & of a bare address as &amp;, which one would copy.
    """
    run, experiment = record.run.get("run_id"), record.run.get("experiment_id")
    if not run or not experiment:
        return {}
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    address, hint = (uri.rstrip("/"), "") if store.is_server(uri) else ("http://127.0.0.1:5000", f" (after `ctmr ui` in {repo})")
    pages = {"this run": store.run_address(experiment, run), "runs side by side": store.comparison_address(experiment)}
    return {"MLflow": ", ".join(f"[{words}]({address}{page})" for words, page in pages.items()) + hint}


def _is_address(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _embed(picture: Path) -> str:
    """A data address of the picture, made small enough for a database."""
    from PIL import Image

    with Image.open(picture) as image:
        image.thumbnail((WIDEST, WIDEST))
        content = io.BytesIO()
        image.convert("L").save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _notify_block(name: str, subject: str, text: str, content: dict[str, Any]) -> None:
    from prefect.blocks.webhook import Webhook
    from prefect.utilities.asyncutils import run_coro_as_sync

    block = _load_block(name)
    if isinstance(block, Webhook):
        run_coro_as_sync(_call(block, content))
    else:
        with block.raise_on_failure():
            run_coro_as_sync(_wait_for(block.notify(text, subject)))


def _load_block(name: str) -> "NotificationBlock | Webhook":
    """The block TYPE/NAME. Raises TypeError for one that cannot notify, and what Prefect raises where there is none."""
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.blocks.webhook import Webhook

    block = Block.load(name, _sync=True)  # type: ignore[call-arg]
    if not isinstance(block, (NotificationBlock, Webhook)):
        raise TypeError(f"{name} is no notification block")
    return block


async def _wait_for(answer: Any) -> None:
    if inspect.isawaitable(answer):
        await answer


async def _call(block: Any, content: dict[str, Any]) -> None:
    answer = await block.call(content)
    answer.raise_for_status()
