"""Has the source new data? Run as a process of its own in the workspace: `python -m pipeline.retraining.look OLD_SOURCE_JSON`.

Prints one line of JSON: {"new": bool, "what": sentence, "version": Kaggle's current version or null}.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipeline import params, paths
from pipeline.atomic import write_json
from pipeline.errors import user_errors
from pipeline.retraining import history


def look(data: params.Data, old: dict[str, Any]) -> dict[str, Any]:
    """Compare the source with `old`, the source.json of the data in use. Raises UserError when the source cannot be reached."""
    if data.source == "kaggle":
        return _kaggle(data, old)
    if data.source == "folder":
        return _folder(data, old)
    return {"new": False, "what": "the phantom depends on params alone", "version": None}


def _kaggle(data: params.Data, old: dict[str, Any]) -> dict[str, Any]:
    from pipeline.sources.kaggle import current_version

    handle = data.kaggle.handle
    current = max(data.kaggle.version, current_version(handle))
    used = old.get("version") if old.get("handle") == handle else None
    what = f"{handle} has version {current}, " + (f"version {used} is in use" if used else "none of it is in use yet")
    return {"new": used != current, "what": what, "version": current}


def _folder(data: params.Data, old: dict[str, Any]) -> dict[str, Any]:
    """Digest of what download would take from the folder; a folder whose files have the sizes and times of last time isn't read again."""
    from pipeline import sources

    assert data.folder is not None  # params refuse it
    glance, kept = _glance(paths.as_given(data.folder)), paths.home() / paths.RETRAIN_WORK / "folder.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    if known.get("glance") != glance:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".look.") as folder:
            sources.take(data, Path(folder))
            counts = {modality: sources.count(Path(folder) / modality) for modality in paths.MODALITIES}
            known = {"glance": glance, "sha256": sources.digest(Path(folder)), "counts": counts}
        write_json(kept, known)
    new, now = known["sha256"] != old.get("sha256"), history.counts(known)
    if not new:
        what = f"is unchanged: {now}"
    else:
        what = f"has changed: {now}, before {history.counts(old)}" if old else f"has {now}, none in use yet"
    return {"new": new, "what": f"{data.folder} {what}", "version": None}


def _glance(place: Path) -> str:
    """Digest of names, sizes and times of change below `place`."""
    found = hashlib.sha256(str(place.resolve()).encode())
    for folder, folders, files in os.walk(place):
        folders.sort()
        for name in sorted(files):
            facts = (Path(folder) / name).lstat()
            found.update(f"{folder}/{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if place.is_file():
        found.update(f"{place.stat().st_size} {place.stat().st_mtime_ns}".encode())
    return found.hexdigest()


if __name__ == "__main__":
    with user_errors():
        print(json.dumps(look(params.load().data, json.loads(sys.argv[1]))))
