"""What MLflow last answered about a registered model, kept as long as its SQLite file has not changed by a byte.

MLflow's import alone takes longer than a slice's translation, and a model is mostly asked for many times between two changes.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import new_file
from pipeline.tracking import store

FILE = "answers.json"  # beside the database


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model: its name (mr-to-ct), number, digest of its weights, scores on the test slices.

    `folder`: model.json and the weights.
    """

    name: str
    version: str
    digest: str
    scores: Mapping[str, float]
    folder: Path


def recall(uri: str, model: str) -> RegisteredModel | None:
    """The answer to `model` (mr-to-ct@champion) if it is still true; None when MLflow has to be asked."""
    file = store.database_file(uri)
    if file is None or (state := _state(file)) is None:
        return None
    try:
        answer = _read_answers(file, state)[model]
        known = RegisteredModel(**{**answer, "folder": Path(answer["folder"])})
    except (KeyError, TypeError):
        return None
    return known if known.folder.is_dir() else None


def keep(uri: str, model: str, answer: RegisteredModel) -> None:
    """Keep `answer` to `model` for `recall`. Nothing is kept for a server, whose state cannot be seen from here."""
    file = store.database_file(uri)
    if file is None or (state := _state(file)) is None:
        return
    models = _read_answers(file, state) | {model: asdict(answer) | {"folder": str(answer.folder)}}
    with suppress(OSError), new_file(file.parent / FILE) as beside:  # a folder that may only be read is asked through MLflow each time
        beside.write_text(json.dumps({"state": state, "models": models}))


def _read_answers(file: Path, state: list[int]) -> dict[str, Any]:
    """The answers that are true of the database `file` in this `state`, by model."""
    try:
        content = json.loads((file.parent / FILE).read_text(encoding="utf-8"))
        return dict(content["models"]) if content["state"] == state else {}
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged: it is only a copy
        return {}


def _state(file: Path) -> list[int] | None:
    """What changes with every write to an SQLite file: identity, size, time, and SQLite's own change counter (fileformat2.html, 1.3.7).

    None where there is no such file, or a write is under way or was broken off.
    """
    try:
        if any(file.with_name(f"{file.name}-{kind}").exists() for kind in ("journal", "wal")):
            return None
        with file.open("rb") as stream:
            counter = int.from_bytes(stream.read(28)[24:], "big")
        known = file.stat()
    except OSError:
        return None
    return [known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, counter]
