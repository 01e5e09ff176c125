"""Outputs that appear under their name only when complete: written beside, flushed to the disk, then renamed.

What is being written is called `.<name>.writing-<random>` and locked (flock) by its writer. The lock ends with the process, however it
ends, so an unlocked one is what a killed writer left; `sweep` removes it.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import errors

WRITING = ".writing-"
NAME = 50  # characters of a name that the hidden one keeps: a name may have 255 bytes, and a character four


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` (same suffix) to write to; flushed and renamed onto `path` on success, removed on any error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with _naming(path), _locked(lambda: _make_file(path)) as beside:
        try:
            yield beside
            _flush(beside)
            beside.replace(path)
            _flush(path.parent)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path, durable: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path` to fill; it replaces `path` on success and is removed on any error.

    `durable`: every file is flushed to the disk before the folder gets its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    with _naming(path), scratch_folder(path.parent, path.name) as beside:
        yield beside
        if durable:
            for place in [*beside.rglob("*"), beside]:
                _flush(place)
        if path.exists():
            with scratch_folder(path.parent, path.name) as aside:
                path.replace(aside / path.name)
                beside.replace(path)
        else:
            beside.replace(path)
        _flush(path.parent)


@contextmanager
def scratch_folder(parent: Path, name: str = "scratch") -> Iterator[Path]:
    """An empty hidden folder in `parent`, removed at the end; what a killed process leaves of it is removed by `sweep`."""
    with _locked(lambda: _make_folder(parent, name)) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as readable JSON with sorted keys and a final newline; the same content always gives the same bytes."""
    with new_file(path) as beside:
        beside.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def sweep(*folders: Path) -> None:
    """Remove what killed writers left directly in `folders`; what a living process writes, here or elsewhere, stays."""
    for folder in folders:
        for left in folder.glob(f".*{WRITING}*"):
            with suppress(OSError):  # in use, or removed by another sweep
                handle = os.open(left, os.O_RDONLY)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                finally:
                    os.close(handle)


def _make_file(path: Path) -> Path:
    beside = path.with_name(f".{path.stem[:NAME]}{WRITING}{secrets.token_hex(8)}{path.suffix}")
    beside.touch(exist_ok=False)  # with the mode that this process gives to new files: others may read no more than of any other
    return beside


def _make_folder(parent: Path, name: str) -> Path:
    folder = parent / f".{name[:NAME]}{WRITING}{secrets.token_hex(8)}"
    folder.mkdir()
    return folder


@contextmanager
def _locked(make: Callable[[], Path]) -> Iterator[Path]:
    """What `make` makes, locked; made again where a sweep came in between."""
    while True:
        place = make()
        handle = os.open(place, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks; nothing is swept there
            fcntl.flock(handle, fcntl.LOCK_EX)
        if place.exists():
            break
        os.close(handle)
    try:
        yield place
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name `path` in an error about the disk that does not say what was being written, unless it is another disk that is full."""
    try:
        yield
    except OSError as error:
        is_other = error.errno == errno.ENOSPC and errors.find_full_scratch(beside=path.parent)
        if error.errno in errors.DISK_ERRORS and not error.filename and not is_other:
            error.filename = str(path)
        raise


def _flush(place: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk: a rename may else outlive what was written before it."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some file systems cannot flush a folder
            raise
    finally:
        os.close(handle)
