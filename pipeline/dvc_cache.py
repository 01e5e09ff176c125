"""Where DVC keeps what it caches, and what a killed `dvc` leaves of its run cache. Read without importing DVC, which takes a second."""

import configparser
import os
import time
from pathlib import Path

from pipeline.errors import UserError

SETTLED = 5.0  # seconds after which nobody is in the middle of writing an entry


def read_config() -> configparser.ConfigParser:
    """The settings of the project that is the working folder, with those of the machine and the person. Raises UserError where damaged."""
    config = configparser.ConfigParser(strict=False, interpolation=None)
    machine = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or "/etc/xdg/dvc"
    person = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "dvc")
    try:
        config.read([Path(machine, "config"), Path(person, "config"), ".dvc/config", ".dvc/config.local"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f".dvc: DVC's settings (config, config.local) cannot be read: {error}") from None
    return config


def find_cache() -> Path:
    """The folder of DVC's cache. Raises UserError where DVC stops at its name."""
    named = read_config().get("cache", "dir", fallback="cache").strip("\"'")
    cache = Path(".dvc") / os.path.expanduser(named)  # noqa: PTH111 - Path's own raises for a user that is none
    if set("{}") & set(str(cache.absolute())):  # dvc_data formats it with the line that shows its progress, and ends in a KeyError
        raise UserError(f"{cache.absolute()}: DVC keeps no cache where the path holds {{ or }}; rename the folder")
    return cache


def sweep_run_cache() -> None:
    """Remove entries of the run cache without content.

    DVC makes an entry's folder, writes a file in it under another name and renames that. Killed between, it leaves a folder on which every
    later run of that stage stops with a TypeError, or half of a file that it would take for the entry (dvc 3, `StageCache._load`).
    """
    for entry in (find_cache() / "runs").glob("??/*"):
        if any(_is_half(file) for file in (entry, *entry.iterdir())):
            time.sleep(max(0.0, min(SETTLED, entry.stat().st_mtime + SETTLED - time.time())))
            for file in filter(_is_half, entry.iterdir()):
                file.unlink(missing_ok=True)
            if not any(entry.iterdir()):
                entry.rmdir()


def _is_half(place: Path) -> bool:
    return place.suffix == ".tmp" or (place.is_dir() and not any(place.iterdir()))
