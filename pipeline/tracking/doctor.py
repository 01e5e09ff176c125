"""`ctmr doctor`: does the MLflow store still fit this folder? Says what is wrong and what to do, and mends a moved repository's addresses."""

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline import paths
from pipeline.tracking import store

_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what to do about it, and whether it was mended just now."""

    problem: str
    remedy: str
    mended: bool = False


def examine(fix: bool = False) -> list[Finding]:
    """Everything that is wrong with the store in use; with `fix`, addresses of a moved repository are mended."""
    uri = store.tracking_uri()
    return [*_moved(uri, fix), *_unregistered(uri)]


def report(fix: bool = False) -> bool:
    """Print the findings; True when nothing is left to do."""
    findings = examine(fix)
    for finding in findings:
        print(f"{'mended' if finding.mended else 'problem'}: {finding.problem}" + ("" if finding.mended else f"; {finding.remedy}"))
    if not findings:
        print(f"MLflow store {store.tracking_uri()}: all well")
    return all(finding.mended for finding in findings)


def _unregistered(uri: str) -> list[Finding]:
    """Models of this folder that the registry does not have: the store is new, or was lost."""
    from pipeline.tracking import registry

    if not paths.MODEL_JSON.is_file():
        return []
    missing = [
        name for direction, name in registry.NAMES.items() if registry.find(uri, direction, registry.weights_digest(direction)) is None
    ]
    if not missing:
        return []
    return [Finding(f"the registry {uri} lacks this folder's {' and '.join(missing)}", "run dvc repro --single-item --force register")]


def _moved(uri: str, fix: bool) -> list[Finding]:
    """Addresses in the store's tables and models that lead into a folder that is no longer there, while ours has the files."""
    file = store.database_file(uri)
    if file is None or not file.is_file():
        return []
    ours = store.artifact_folder(uri).resolve()
    with closing(sqlite3.connect(file, timeout=30)) as database:
        old = {folder for table, column in _ADDRESSES for folder in _foreign(database, table, column, ours)}
        if not old:
            return []
        problem = f"artifacts are looked for in {', '.join(sorted(old))}, but lie in {ours}"
        if not fix:
            return [Finding(problem, "run ctmr doctor --fix")]
        with database:
            for table, column in _ADDRESSES:
                for folder in old:
                    for before, after in ((f"file://{folder}", ours.as_uri()), (folder, str(ours))):
                        database.execute(
                            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                            (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                        )
    for description in ours.rglob("MLmodel"):
        text = description.read_text(encoding="utf-8")
        for folder in old:
            text = text.replace(f"{folder}/", f"{ours}/")
        if text != description.read_text(encoding="utf-8"):
            description.write_text(text, encoding="utf-8")
    return [Finding(problem, "", mended=True)]


def _foreign(database: sqlite3.Connection, table: str, column: str, ours: Path) -> set[str]:
    """Artifact folders named in a column that are gone and whose content lies in ours."""
    found = set()
    for (address,) in database.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"):
        match = re.match(r"(?:file://)?(/.*?/artifacts)(?:/(.*))?$", address)
        if not match or Path(match[1]) == ours or Path(match[1]).exists():
            continue
        if match[2] is None or (ours / match[2]).exists():
            found.add(match[1])
    return found
