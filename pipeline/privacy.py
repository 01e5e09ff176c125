"""Patients become keyed hashes: the same patient, the same key within a project; nobody without the project's salt can test a guess.

The salt lies in `.salt` in the project's folder (git-ignored, made by `make_salt`, readable by its owner alone). Keep it as long as the
data: with another salt the same files give other keys. Machines that must agree share the file, or set `$CTMR_SALT`.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pipeline import paths
from pipeline.errors import UserError

SALT_VARIABLE = "CTMR_SALT"


def make_salt() -> None:
    """Make the project's salt unless there is one. A step of its own: nothing that only reads files writes one.

    Raises UserError outside of a project, and for a salt that guesses could find.
    """
    if _salt():
        return
    file = paths.home() / paths.SALT
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".salt.")  # readable by its owner alone
    with os.fdopen(handle, "w") as beside:
        beside.write(secrets.token_hex(32) + "\n")
    try:
        os.link(name, file)  # unlike a rename, this loses against another process that was faster
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()


def pseudonym(*identity: str) -> str:
    """16 hexadecimal digits that stand for `identity` (say "patient" and an id): HMAC-SHA-256 with the project's salt, RFC 2104.

    Raises UserError where there is no salt.
    """
    salt = _salt()
    if not salt:
        raise UserError(f"no {paths.SALT} here or above, by which names are hidden; run dvc repro in the project's folder")
    return hmac.new(salt, "\0".join(identity).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16]


def group_key(*identity: str) -> str:
    """`pseudonym` where there is a salt, else "": outside of the graph nothing is kept that would need a key."""
    return pseudonym(*identity) if _salt() else ""


def volume_key(path: Path) -> str:
    """`group_key` of whom a volume shows, by the file's place: see `subject`."""
    return group_key("volume", subject(path))


def subject(path: Path) -> str:
    """Whom a volume shows, by its place: the BIDS subject (sub-...) where a name has one, else its path below the modality's folder."""
    parts = PurePosixPath(path.as_posix()).parts
    for part in parts:
        if part.startswith("sub-"):
            return part.split("_")[0].split(".")[0]
    below = next((i + 1 for i in reversed(range(len(parts) - 1)) if parts[i] in ("ct", "mr")), len(parts) - 1)
    below += below < len(parts) - 1 and parts[below] in ("train", "test")
    return "/".join(parts[below:]).split(".nii")[0]


def _salt() -> bytes:
    """The salt: $CTMR_SALT, else the nearest file at or above the working folder; empty where there is none."""
    if os.environ.get(SALT_VARIABLE):
        return os.environ[SALT_VARIABLE].encode()
    here = Path.cwd()
    file = next((folder / paths.SALT for folder in (here, *here.parents) if (folder / paths.SALT).is_file()), None)
    return b"" if file is None else _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(file: Path, changed: int) -> bytes:
    salt = file.read_bytes().strip()
    if len(salt) < 16:
        raise UserError(f"{file}: shorter than 16 characters, which guesses could find; restore it, or delete it to have a new one made")
    return salt
