"""Source `url`: slices from object storage or a web server (s3://, gs://, https://, ... by fsspec): a folder of objects, or one archive.

What was fetched stays in `~/.cache/ctmr` (or `$CTMR_CACHE`): only objects that are new or changed are fetched again, and a large one goes
on where it broke. Credentials come from the usual places of each storage (environment, ~/.aws, ...); none is shown or kept.
"""

import hashlib
import os
from pathlib import Path

import filelock
from fsspec import AbstractFileSystem

from pipeline import atomic
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.sources import archive, folder
from pipeline.sources.provenance import Fetched, News, Provenance
from pipeline.sources.storage import Object, digest, list_objects, listing_digest, opened, title_of

CACHE_VARIABLE = "CTMR_CACHE"
BATCH = 64  # objects fetched at a time
LARGE = 64 * 2**20  # bytes; larger objects are fetched in pieces, so that a broken connection loses little
PIECE = 8 * 2**20


def fetch(data: Data, target: Path) -> Fetched:
    """Fetch what is new at `data.url` and copy its images into `target`, sorted by modality and split.

    Raises UserError, retryable where the storage cannot be reached, when it refuses, holds nothing or is of unknown layout.
    """
    assert data.url is not None  # params refuse it
    title = title_of(data.url)
    with opened(data.url) as (storage, root):
        objects = list_objects(storage, root, title)
        copy = _copy_of(data.url)
        copy.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(copy.with_name(f"{copy.name}.lock")):
            _update(storage, objects, copy)
            if len(objects) == 1 and objects[0].name.lower().endswith(archive.SUFFIXES):
                with atomic.new_folder(copy.with_name(f"{copy.name}.unpacked")) as unpacked:
                    archive.extract(copy / objects[0].name, unpacked)
                    facts = folder.copy_tree(unpacked, target, title, data.patient)
            else:
                facts = folder.copy_tree(copy, target, title, data.patient)
    return Fetched(title, facts={**facts, "listing": digest(objects)})


def look(data: Data, used: Provenance | None) -> News:
    """Compare names, sizes and marks of the objects with those of the data in use; nothing is fetched."""
    assert data.url is not None
    listing = listing_digest(data.url)
    return News.from_comparison(title_of(data.url), used, used is not None and used.facts.get("listing") == listing)


def _copy_of(address: str) -> Path:
    cache = Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache/ctmr")
    return cache / hashlib.sha256(address.encode()).hexdigest()[:24]


def _update(storage: AbstractFileSystem, objects: list[Object], copy: Path) -> None:
    """Bring the copy to what the storage holds: what is new is fetched, what is gone is removed. A mark beside a file says what it is."""
    wanted = {copy / item.name: item for item in objects}
    for file in [file for file in copy.rglob("*") if file.is_file()]:
        if not file.name.startswith(".") and file not in wanted:
            file.unlink()
            _seal(file).unlink(missing_ok=True)
    missing = [(file, item) for file, item in wanted.items() if not _is_whole(file, item)]
    for file, _ in missing:
        file.parent.mkdir(parents=True, exist_ok=True)
    small = [(file, item) for file, item in missing if item.size < LARGE]
    for start in range(0, len(small), BATCH):
        batch = small[start : start + BATCH]
        parts = [_part(file, item) for file, item in batch]
        storage.get([item.key for _, item in batch], [str(part) for part in parts])
        for (file, item), part in zip(batch, parts, strict=True):
            _finish(part, file, item)
    for file, item in missing:
        if item.size >= LARGE:
            _fetch_large(storage, item, _part(file, item))
            _finish(_part(file, item), file, item)


def _fetch_large(storage: AbstractFileSystem, item: Object, part: Path) -> None:
    """Append what is missing to `part`, which belongs to this very content of the object."""
    with storage.open(item.key, "rb") as remote, part.open("ab") as local:
        remote.seek(local.tell())
        while piece := remote.read(PIECE):
            local.write(piece)


def _is_whole(file: Path, item: Object) -> bool:
    """Whether the copy of an object is there; storages that give no mark are fetched again."""
    seal = _seal(file)
    return bool(item.mark) and file.is_file() and file.stat().st_size == item.size and seal.is_file() and seal.read_text() == item.mark


def _finish(part: Path, file: Path, item: Object) -> None:
    if item.size and part.stat().st_size != item.size:
        size = part.stat().st_size
        part.unlink()
        raise UserError(f"{file.name}: {size} bytes came instead of {item.size}; run again", retryable=True)
    part.replace(file)
    _seal(file).write_text(item.mark)


def _seal(file: Path) -> Path:
    return file.with_name(f".{file.name}.mark")


def _part(file: Path, item: Object) -> Path:
    return file.with_name(f".{file.name}.{hashlib.sha256(item.mark.encode()).hexdigest()[:8]}.part")
