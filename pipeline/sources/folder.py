"""Source `folder`: slices from a directory or archive of the user's own."""

import json
from pathlib import Path
from typing import Any

from pipeline import atomic, paths
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.sources import archive, content, layout, pairs, patients, provenance
from pipeline.sources.names import Names
from pipeline.sources.provenance import Fetched, News, Provenance

_NOT_FOUND = "data.folder = {}: not found; give a directory or archive, relative to the project or absolute"


def fetch(data: Data, target: Path) -> Fetched:
    """Copy the images of `data.folder` (a directory, or a zip or tar archive) into `target`, sorted by modality and split.

    Raises UserError, naming the folder, when it is missing, unreadable or of unknown layout.
    """
    source = _place(data)
    title = f"data.folder = {source}"
    if not source.exists():
        raise UserError(_NOT_FOUND.format(source))
    if not (source.is_dir() or source.is_file()):
        raise UserError(f"{title}: a pipe or device; expected a directory or archive")
    if source.resolve().is_relative_to(paths.RAW.resolve()):
        raise UserError(f"{title}: lies in {paths.RAW}, which this stage writes; move your images elsewhere")
    if paths.RAW.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{title}: holds {paths.RAW}, which this stage writes; name the folder of your images alone")
    if source.is_dir():
        facts = copy_tree(source, target, title, data.patient)
    else:
        with atomic.scratch_folder(target.parent, "unpacked") as unpacked:
            archive.extract(source, unpacked)
            facts = copy_tree(unpacked, target, title, data.patient)
    return Fetched("Slices of a folder", facts=facts)


def look(data: Data, used: Provenance | None) -> News:
    """Compare what download would copy with the data in use.

    What download would copy is remembered by the folder's content, so that nothing is copied twice to see that nothing has changed.
    """
    memory = paths.home() / paths.RETRAIN_WORK / "folder.json"
    try:
        now = content.digest(_place(data))
    except FileNotFoundError:
        raise UserError(_NOT_FOUND.format(_place(data))) from None
    known = _recall(memory)
    if known.get("content") != now:
        with atomic.scratch_folder(Path.cwd(), "look") as folder:
            fetch(data, folder)
            known = {"content": now, "sha256": provenance.digest(folder)}
        atomic.write_json(memory, known)
    return News.from_comparison(str(data.folder), used, used is not None and known["sha256"] == used.sha256)


def copy_tree(root: Path, target: Path, title: str, pattern: str = patients.AUTO) -> dict[str, Any]:
    """Copy the images of the tree `root` into `target`, with pairs.csv and files.csv; gives the facts about them.

    `title` heads error messages; `pattern` says how paths name patients (see patients.py).
    """
    try:
        names = Names(layout.walk(root))
        found = layout.find(root, names.path, pattern)
        layout.copy(found, target)
        rows = ((place.target.as_posix(), place.patient, place.contrast) for place in found.places)
        layout.write_table(rows, target / paths.FILES_CSV.name)
        paired = pairs.of_images(pairs.find(root, found, names.group), target)
    except UserError as error:
        raise UserError(f"{title}: {error}") from None
    pairs.write(paired, target)
    return {"pairs": len(paired), "layout": found.understood}


def _place(data: Data) -> Path:
    assert data.folder is not None  # params refuse it
    return paths.as_given(data.folder)


def _recall(memory: Path) -> dict[str, str]:
    """What was remembered of the folder; nothing where there is no memory yet, or a damaged one."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        return {"content": str(known["content"]), "sha256": str(known["sha256"])}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
