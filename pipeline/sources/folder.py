"""Source `folder`: slices from a directory or archive of the user's own."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

from pipeline import atomic, paths
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.sources import archive, identity, layout, provenance
from pipeline.sources.provenance import Fetched, News, Provenance


def fetch(data: Data, target: Path) -> Fetched:
    """Copy the images of `data.folder` (a directory, or a zip or tar archive) into `target`, sorted by modality and split.

    Raises UserError, naming the folder, when it is missing, unreadable or of unknown layout.
    """
    source = _place(data)
    title = f"data.folder = {source}"
    if not source.exists():
        raise UserError(f"{title}: not found; give a directory or archive, relative to the project or absolute")
    if source.resolve().is_relative_to(paths.RAW.resolve()):
        raise UserError(f"{title}: lies in {paths.RAW}, which this stage writes; move your images elsewhere")
    if source.is_dir():
        pairs = copy_tree(source, target, title)
    else:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpacked.") as unpacked:
            archive.extract(source, Path(unpacked))
            pairs = copy_tree(Path(unpacked), target, title)
    return Fetched("Slices of a folder", facts={"pairs": pairs})


def look(data: Data, used: Provenance | None) -> News:
    """Compare what download would copy with the data in use.

    The digest of a folder whose files have the names, sizes and times of last time is remembered, and nothing is read again.
    """
    memory = paths.home() / paths.RETRAIN_WORK / "folder.json"
    now = fingerprint(_place(data))
    known = _recall(memory)
    if known.get("fingerprint") != now:
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".look.") as folder:
            fetch(data, Path(folder))
            known = {"fingerprint": now, "sha256": provenance.digest(Path(folder))}
        atomic.write_json(memory, known)
    new = used is None or known["sha256"] != used.sha256
    state = "has images, none in use yet" if used is None else "has changed" if new else "is unchanged"
    return News(new, f"{data.folder} {state}")


def copy_tree(root: Path, target: Path, title: str) -> int:
    """Copy the images of the tree `root`, and its pairs.csv, into `target`; gives the number of pairs. `title` heads error messages."""
    try:
        names = identity.Names(root, list(layout.walk(root)))
        placed = layout.place(root, names.path)
        layout.copy(placed, target)
        return layout.copy_pairs(root, placed, target, names.group)
    except UserError as error:
        raise UserError(f"{title}: {error}") from None


def fingerprint(place: Path) -> str:
    """Digest of names, sizes and times of change of a file, or of all files below a folder: cheap, and other when anything changed."""
    whole = hashlib.sha256(str(place.resolve()).encode("utf-8", "surrogateescape"))
    for folder, folders, files in os.walk(place, followlinks=False):
        folders.sort()
        for name in sorted(files):
            state = (Path(folder) / name).lstat()
            whole.update(f"{folder}/{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if place.is_file():
        whole.update(f"{place.stat().st_size} {place.stat().st_mtime_ns}".encode())
    return whole.hexdigest()


def _place(data: Data) -> Path:
    assert data.folder is not None  # params refuse it
    return paths.as_given(data.folder)


def _recall(memory: Path) -> dict[str, str]:
    """What was remembered of the folder; nothing where there is no memory yet, or a damaged one."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return {"fingerprint": str(known["fingerprint"]), "sha256": str(known["sha256"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
