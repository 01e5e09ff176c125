"""What a folder or archive holds, as one digest that is cheap to ask for again: only files that look changed are read.

Imports nothing slow: the look stage asks at every `dvc repro`.
"""

import hashlib
import json
import time
from pathlib import Path

from pipeline import atomic, paths
from pipeline.folders import walk

SETTLED = 2 * 10**9  # nanoseconds; a file that changed less long ago may change again within the same tick of the file system's clock

Seen = dict[str, list[str | int]]  # by a hash of the file's place, so that no name is kept: size, times of change, inode, SHA-256


def digest(place: Path) -> str:
    """SHA-256 over names and bytes of the files below the folder `place`, hidden ones left out, or of the file `place`.

    Raises FileNotFoundError.
    """
    place = place.resolve(strict=True)
    memory = paths.home() / paths.LOOK / f"{_hash(str(place))}.json"
    seen, now, whole = _recall(memory), time.time_ns(), hashlib.sha256()
    seen_now: Seen = {}
    for file in sorted(file for file in walk(place) if file.is_file()) if place.is_dir() else [place]:
        name = file.relative_to(place).as_posix()
        try:
            state = file.stat()
            looks = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
            *looked, sha256 = seen.get(_hash(name), [0, 0, 0, 0, ""])
            if looks != looked:
                with file.open("rb") as content:
                    sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            continue  # withdrawn while we look
        if max(state.st_mtime_ns, state.st_ctime_ns) < now - SETTLED:
            seen_now[_hash(name)] = [*looks, sha256]
        whole.update(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape"))
    if seen_now != seen:
        atomic.write_json(memory, seen_now)
    return whole.hexdigest()


def _recall(memory: Path) -> Seen:
    """What was seen last time; nothing where there is no memory, or a damaged one: then everything is read again."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sound = isinstance(known, dict) and all(isinstance(line, list) and len(line) == 5 for line in known.values())
    return known if sound else {}


def _hash(name: str) -> str:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
