"""What MLflow last answered about a registered model, kept as long as its SQLite file has not changed by a byte.

MLflow's import alone takes longer than a slice's translation, and a model is mostly asked for many times between two changes.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

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
    file, state = store.database_file(uri), _state(uri)
    if file is None or state is None:
        return None
    try:
        content = json.loads((file.parent / FILE).read_text(encoding="utf-8"))
        answer = content["models"][model] if content["state"] == state else None
        found = RegisteredModel(**{**answer, "folder": Path(answer["folder"])}) if answer else None
    except (OSError, ValueError, KeyError, TypeError):  # absent, or damaged: it is only a copy
        return None
    return found if found and found.folder.is_dir() else None


def keep(uri: str, model: str, answer: RegisteredModel) -> None:
    """Keep `answer` to `model` for `recall`. Nothing is kept for a server, whose state cannot be seen from here."""
    file, state = store.database_file(uri), _state(uri)
    if file is None or state is None:
        return
    place = file.parent / FILE
    with suppress(OSError):  # a folder that may only be read is asked through MLflow each time
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            models = content["models"] if content["state"] == state else {}
        except (OSError, ValueError, KeyError, TypeError):
            models = {}
        with new_file(place) as beside:
            beside.write_text(json.dumps({"state": state, "models": {**models, model: asdict(answer) | {"folder": str(answer.folder)}}}))


def _state(uri: str) -> list[int] | None:
    """What changes with every write to an SQLite file: identity, size, time, and SQLite's own change counter (fileformat2.html, 1.3.7).

    None where there is no such file, or a write is under way or was broken off.
    """
    file = store.database_file(uri)
    if file is None:
        return None
    try:
        if any(file.with_name(f"{file.name}-{kind}").exists() for kind in ("journal", "wal")):
            return None
        with file.open("rb") as stream:
            counter = int.from_bytes(stream.read(28)[24:], "big")
        known = file.stat()
    except OSError:
        return None
    return [known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, counter]
