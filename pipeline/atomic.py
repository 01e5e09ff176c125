"""Outputs that appear under their name only when complete: written beside, then renamed."""

import glob
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` (same suffix) to write to; renamed onto `path` on success, removed on any error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    beside.chmod(0o644)
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; it replaces `path` on success and is removed on any error.

    What a process that was killed left of the same kind is removed first: it may be gigabytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{glob.escape(ours)}*"):
        process = left.name.removeprefix(ours).split("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{ours}{os.getpid()}-"))
    beside.chmod(0o755)
    try:
        yield beside
        if path.exists():
            shutil.rmtree(path)
        beside.replace(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON with sorted keys and a final newline; the same content always gives the same bytes."""
    with new_file(path) as beside:
        beside.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
