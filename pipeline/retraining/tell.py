"""Everything by which people learn what a retraining did: report file, artifact in the Prefect UI, notifications."""

import base64
import io
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from pipeline import atomic
from pipeline.retraining import history, notify, project, results, summary
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import Workspace
from pipeline.tracking import store

WIDEST = 720  # pixels of the sample grid in the Prefect UI


def tell(repo: Path, record: Record, stages: list[str], work: Workspace | None, targets: list[str]) -> None:
    """Write reports/retrain/<time>.md and, unless the run is being stopped, show it in the Prefect UI and notify."""
    record.ended = record.ended or datetime.now().astimezone().isoformat(timespec="seconds")
    folder = history.write(repo, record)
    links = results.keep(work, folder) if work is not None and record.decisions else {}
    picture = links.pop("samples", "")
    if work is not None and record.error:
        links["files that the error names, until the next retraining"] = f"in {work.folder}"
    links |= _mlflow(repo, record)
    file = folder.with_suffix(".md")
    with atomic.new_file(file) as beside:
        beside.write_text(summary.markdown(record, stages, f"{folder.name}/samples.png" if picture else "", links), encoding="utf-8")
    if record.outcome == "cancelled":
        return
    text = summary.markdown(record, stages, _embedded(Path(picture)) if picture else "", {**links, "this summary": str(file)})
    create_markdown_artifact(text, key=f"retrain-summary-{project.name(repo)}", description=summary.headline(record))
    notify.send(record, summary.markdown(record, stages, "", links), targets, get_run_logger().warning)


def comparison(record: Record) -> str:
    """What a person needs who is asked for approval."""
    return summary.markdown(replace(record, outcome="waiting"), [], "", _mlflow(Path(), record))


def _mlflow(repo: Path, record: Record) -> dict[str, str]:
    """The run's page and the comparison of all runs; none where training could not reach the store.

    As links with words: Prefect's UI shows the & of a bare address as &amp;, which one would copy.
    """
    run, experiment = record.run.get("run_id"), record.run.get("experiment_id")
    if not run or not experiment:
        return {}
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    server, hint = (uri.rstrip("/"), "") if store.is_server(uri) else ("http://127.0.0.1:5000", f" (after `ctmr ui` in {repo})")
    pages = {"this run": store.run_address(experiment, run), "runs side by side": store.comparison_address(experiment)}
    return {"MLflow": ", ".join(f"[{words}]({server}{page})" for words, page in pages.items()) + hint}


def _embedded(picture: Path) -> str:
    """A data address of the picture, made small enough for a database."""
    from PIL import Image

    with Image.open(picture) as image:
        image.thumbnail((WIDEST, WIDEST))
        content = io.BytesIO()
        image.convert("L").save(content, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
