"""`ctmr doctor`: does the MLflow store still fit this folder? Says what is wrong and what to do; mends addresses in a moved repository."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pipeline import paths
from pipeline.atomic import new_file
from pipeline.domain import DIRECTIONS
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
        direction.model_name for direction in DIRECTIONS if registry.find(uri, direction, registry.weights_digest(direction)) is None
    ]
    if not missing:
        return []
    return [Finding(f"the registry {uri} lacks this folder's {' and '.join(missing)}", "run dvc repro --single-item --force register")]


def _moved(uri: str, fix: bool) -> list[Finding]:
    """Whether the store was moved or copied here and still looks for its artifacts where it came from."""
    file = store.database_file(uri)
    if file is None or not file.is_file():
        return []
    ours = store.artifact_folder(uri)
    with closing(sqlite3.connect(file, timeout=30)) as database:
        try:
            row = database.execute("SELECT artifact_location FROM experiments WHERE name = ?", (store.EXPERIMENT,)).fetchone()
        except sqlite3.OperationalError:  # no tables yet
            return []
        old = Path(unquote(row[0].removeprefix("file://"))) if row else ours
        if old == ours:
            return []
        problem = f"the store was made in another place: it looks for artifacts in {old}, but they lie in {ours}"
        if not fix:
            return [Finding(problem, "run ctmr doctor --fix")]
        pairs = ((old.as_uri(), ours.as_uri()), (str(old), str(ours)))
        with database:
            for table, column in _ADDRESSES:
                for before, after in pairs:
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )
    for description in ours.rglob("MLmodel"):
        text = description.read_text(encoding="utf-8")
        mended = text.replace(f"{old.as_uri()}/", f"{ours.as_uri()}/").replace(f"{old}/", f"{ours}/")
        if mended != text:
            with new_file(description) as beside:
                beside.write_text(mended, encoding="utf-8")
    return [Finding(problem, "", mended=True)]
