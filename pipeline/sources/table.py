"""Every source of data. A new one is a file with `fetch` and `look`, one line in SOURCES, and its params in `Data`."""

import importlib
import sys
from pathlib import Path
from typing import Protocol

from pipeline import atomic, paths
from pipeline.domain import MODALITIES
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.sources import packs, provenance
from pipeline.sources.provenance import Fetched, News, Provenance

# data.source -> its module, imported when it is used: each needs other libraries.
SOURCES = {
    "phantom": "pipeline.sources.phantom",
    "kaggle": "pipeline.sources.kaggle",
    "folder": "pipeline.sources.folder",
    "url": "pipeline.sources.url",
}


class Source(Protocol):
    """What a source's module offers."""

    @staticmethod
    def fetch(data: Data, target: Path) -> Fetched:
        """Fill the folder `target` with ct/ and mr/, images in original bytes, the first folder below them being train/ or test/ where
        the source has its own split, and pairs.csv where registered pairs are known. Raises UserError when that fails."""

    @staticmethod
    def look(data: Data, used: Provenance | None) -> News:
        """Compare the source with the data in use (None: there is none). Raises UserError when it cannot be reached."""


def download(data: Data, target: Path = paths.RAW, *, in_packs: bool = False) -> Provenance:
    """Fill `target` (data/raw) from the source that `data` names, with source.json; all or nothing. `in_packs`: if many, see packs.py.

    Raises UserError when the source fails or a modality is empty.
    """
    with atomic.new_folder(target) as folder:
        fetched = _source(data).fetch(data, folder)
        counts = {str(modality): sum(file.is_file() for file in (folder / modality).rglob("*")) for modality in MODALITIES}
        empty = [name.upper() for name, count in counts.items() if count == 0]
        if empty:
            raise UserError(f"{fetched.title}: no {' and no '.join(empty)} images; both modalities are needed")
        sha256 = provenance.digest(folder)
        version = sha256[:12] if fetched.version is None else fetched.version
        content = Provenance(data.source, fetched.title, version, sha256, counts, fetched.simulated, fetched.facts)
        content.write(folder / paths.SOURCE_JSON.name)
        if fetched.pinned:
            _warn_if_changed(content, target)
        if in_packs:
            packs.pack(folder)
    return content


def look(data: Data, used: Provenance | None) -> News:
    """Whether the source that `data` names has something new, compared with the data in use. Raises UserError as the source does."""
    return _source(data).look(data, used)


def _source(data: Data) -> Source:
    module: Source = importlib.import_module(SOURCES[data.source])  # type: ignore[assignment]
    return module


def _warn_if_changed(content: Provenance, target: Path) -> None:
    """A pinned version whose bytes are others than last time: somebody published anew under an old number, or damaged a copy."""
    before = _last_download(target)
    if before and before.title == content.title and before.sha256 != content.sha256:
        print(
            f"warning: {content.title} has other content than before (digest {content.sha256[:12]}, was {before.sha256[:12]});"
            " models trained on it before cannot be reproduced from it",
            file=sys.stderr,
        )


def _last_download(target: Path) -> Provenance | None:
    """source.json of the last download, out of DVC's cache where `dvc repro` has cleared the folder before it ran the stage."""
    before = provenance.read(target / paths.SOURCE_JSON.name)
    if before or target != paths.RAW or not paths.DVC_LOCK.is_file():
        return before
    import json

    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.repo.data import DataIndexDirError

    try:
        return Provenance.parse(json.loads(dvc.api.read(paths.SOURCE_JSON.as_posix(), encoding="utf-8")))
    except (DvcException, DataIndexDirError, OSError, ValueError, KeyError):
        return None  # never downloaded, or no longer in the cache: nothing to compare
