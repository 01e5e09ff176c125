"""Folders of users, walked through in one way: links are followed, hidden names are left out."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path


def walk(folder: Path, skip: Collection[str] = (), above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Everything below `folder` that is no folder, links that lead nowhere among it; folders called as in `skip` (lower case) left out.

    Links are followed, but not into a folder that they lie in (`above`).
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        listed = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in listed:
        if not entry.is_dir():
            yield Path(entry.path)
        elif entry.name.lower() not in skip:
            yield from walk(Path(entry.path), skip, above | {real})
