"""What the stages left in the workspace, read into the record of a retraining; report and pictures kept beside it."""

import json
import shutil
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import Workspace
from pipeline.tracking.gate import HEADLINE


def read(workspace: Workspace, record: Record, before: dict[str, str], now: dict[str, str]) -> None:
    """Data, scores, decisions and run of the finished graph; `outcome` becomes promoted, refused, or repeated where nothing was decided.

    `before` and `now`: digests of the champions' weights before and after register, by model. The same weights with the same scores keep
    an earlier training's decision, so that this one's "champion" need not be true any more, or was true before.
    """
    record.source = read_json(workspace.folder / paths.SOURCE_JSON)
    record.fit = read_json(workspace.folder / paths.VALIDATION_JSON).get("counts", {})
    record.split = read_json(workspace.folder / paths.SPLIT_JSON).get("slices", {})
    for direction, scores in read_json(workspace.folder / paths.METRICS_JSON).get("test", {}).items():
        kept = [name for score in HEADLINE for name in (score, f"{score}_low", f"{score}_high")]
        record.scores[direction] = {name: scores[name] for name in kept if isinstance(scores.get(name), int | float)}
    versions = read_json(workspace.folder / paths.VERSIONS_JSON)
    record.decisions = {model: {key: entry[key] for key in ("champion", "reasons", "weights")} for model, entry in versions.items()}
    record.run = {key: str(value) for key, value in read_json(workspace.folder / paths.RUN_JSON).items()}
    promoted = [model for model, entry in record.decisions.items() if before.get(model) != now.get(model) == entry["weights"]]
    ran = {"stage": "register", "result": "ran"}.items() <= record.stages[-1].items()
    repeated = not ran or any(entry["champion"] for entry in record.decisions.values())
    record.outcome = "promoted" if promoted else "repeated" if repeated else "refused"
    for model, entry in record.decisions.items():
        if entry["champion"] and model not in promoted:
            entry["champion"] = now.get(model) == entry["weights"]
            said = "it was champion before" if entry["champion"] else "another version is champion since"
            entry["reasons"].append(f"so decided when these weights were first trained; {said}")


def awaiting(workspace: Workspace, record: Record) -> list[str]:
    """Models that passed every check and wait for a person's word, since promotion is manual."""
    if workspace.params()["register"]["promotion"] != "manual":
        return []
    return [
        model
        for model, entry in record.decisions.items()
        if not entry["champion"] and not any(": NO" in reason for reason in entry["reasons"])
    ]


def drift(workspace: Workspace, reference: Path | None) -> dict[str, Any]:
    """Drift of the workspace's data from the statistics in `reference`, only the tests that found one; empty without a reference."""
    if reference is None:
        return {}
    import pandas as pd

    from pipeline.dataset.drift import compare

    compared = compare(pd.read_parquet(workspace.folder / paths.MANIFEST), read_json(reference))
    return {
        "from": "the data of the last retraining",
        "drifted": compared["drifted"],
        "tests": [test for test in compared["tests"] if test["drifted"]],
    }


def keep(workspace: Workspace, target: Path) -> dict[str, str]:
    """Copy the report and the samples of the finished graph into `target`; gives places to read on, by name."""
    target.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, file in {"report": paths.REPORT_HTML, "model card": paths.MODEL_CARD, "samples": paths.TRAIN_REPORT / "samples.png"}.items():
        if (workspace.folder / file).is_file():
            shutil.copyfile(workspace.folder / file, target / file.name)
            found[name] = str(target / file.name)
    return found


def read_json(file: Path) -> dict[str, Any]:
    """Content of a JSON file; empty when it is absent."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content
