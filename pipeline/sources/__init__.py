"""Where slices come from: Kaggle, a folder or archive, or the phantom."""

import hashlib
from pathlib import Path
from typing import Any

from pipeline import atomic, params, paths
from pipeline.errors import UserError


def download(data: params.Data, target: Path = paths.RAW) -> dict[str, Any]:
    """Fill `target` (data/raw) from the source that `data` names, with source.json; all or nothing. Gives the content of source.json.

    `target` then holds ct/ and mr/ with images in original bytes, the first folder below being train/ or test/ where the source has
    its own split, and pairs.csv where registered pairs are known. Raises UserError when the source fails or a modality is empty.
    """
    with atomic.new_folder(target) as folder:
        facts = take(data, folder)
        counts = {modality: count(folder / modality) for modality in paths.MODALITIES}
        content = {"source": data.source, **facts, "sha256": digest(folder), "counts": counts}
        content.setdefault("version", content["sha256"][:12])
        empty = [name.upper() for name, count in counts.items() if count == 0]
        if empty:
            raise UserError(f"{describe(content)}: no {' and no '.join(empty)} images; both modalities are needed")
        atomic.write_json(folder / paths.SOURCE_JSON.name, content)
    return content


def digest(folder: Path) -> str:
    """SHA-256 over the sorted (path, SHA-256) of every file in `folder` but source.json: the identity of a data set."""
    whole = hashlib.sha256()
    for path in sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()):
        if path != paths.SOURCE_JSON.name:
            with (folder / path).open("rb") as content:
                whole.update(f"{path}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def describe(source: dict[str, Any]) -> str:
    """One phrase for a person: which source, which version."""
    return " ".join(str(part) for part in (source["source"], source.get("handle", ""), "version", source["version"]) if part != "")


def take(data: params.Data, folder: Path) -> dict[str, Any]:
    # Imported here: the phantom needs scipy, Kaggle needs its client, and a stage should only wait for what it uses.
    if data.source == "kaggle":
        from pipeline.sources import kaggle

        return kaggle.fetch(data, folder)
    if data.source == "folder":
        from pipeline.sources import folder as own_folder

        return own_folder.fetch(data, folder)
    from pipeline.sources import phantom

    return phantom.fetch(data, folder)


def count(folder: Path) -> int:
    """Files below `folder`."""
    return sum(file.is_file() for file in folder.rglob("*")) if folder.is_dir() else 0
