"""A registered model found in an SQLite store without MLflow, whose import alone takes longer than a slice's translation.

Only reads, and only what it is sure of: for anything else the registry asks MLflow, which also knows how to say what is wrong.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.tracking import store


@dataclass(frozen=True)
class Found:
    """A version of a registered model: its number, the folder of its files, its tags."""

    number: str
    folder: Path
    tags: Mapping[str, str]


def look_up(uri: str, name: str, at: str, wanted: str) -> Found | None:
    """Version `wanted` (`at` is "/") or the one with the alias `wanted` of model `name` in the store `uri`.

    None where the store is no SQLite file, lacks these tables, has no such version, or keeps its files elsewhere than in a local folder.
    """
    file = store.database_file(uri)
    if file is None or not file.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as database:
            number = (
                wanted if at == "/" else _one(database, "version FROM registered_model_aliases WHERE name = ? AND alias = ?", name, wanted)
            )
            place = _one(database, "storage_location FROM model_versions WHERE name = ? AND version = ?", name, number)
            tags = database.execute("SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?", (name, number)).fetchall()
    except sqlite3.Error:
        return None
    folder = Path(unquote(urlsplit(str(place)).path))
    if not str(place).startswith("file:///") or not folder.is_dir():
        return None
    return Found(str(number), folder, dict(tags))


def _one(database: sqlite3.Connection, what: str, *values: object) -> object:
    """The only value that the query gives; None where it gives none, or several (other workspaces of the same store)."""
    rows = database.execute(f"SELECT {what}", values).fetchall()
    return rows[0][0] if len(rows) == 1 else None
