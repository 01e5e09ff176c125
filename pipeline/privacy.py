"""Patients become keyed hashes: the same patient, the same key within a project; nobody without the project's salt can test a guess.

The salt lies in `.salt` in the project's folder (git-ignored, made on first need, readable by its owner alone). Keep it as long as the
data: with another salt the same files give other keys. Machines that must agree share the file, or set `$CTMR_SALT`.
"""

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pipeline import paths
from pipeline.errors import UserError

SALT_VARIABLE = "CTMR_SALT"


def pseudonym(*identity: str) -> str:
    """16 hexadecimal digits that stand for `identity` (say "patient" and an id): HMAC-SHA-256 with the project's salt, RFC 2104.

    "" outside of any project when no salt is set: nothing is kept there that would need a key.
    """
    salt = _salt(Path.cwd())
    return hmac.new(salt, "\0".join(identity).encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:16] if salt else ""


def volume_key(path: Path) -> str:
    """`pseudonym` of whom a volume shows, by the file's place: see `subject`."""
    return pseudonym("volume", subject(path))


def subject(path: Path) -> str:
    """Whom a volume shows, by its place: the BIDS subject (sub-...) where a name has one, else its path below the modality's folder."""
    parts = PurePosixPath(path.as_posix()).parts
    for part in parts:
        if part.startswith("sub-"):
            return part.split("_")[0].split(".")[0]
    below = next((i + 1 for i in reversed(range(len(parts) - 1)) if parts[i] in ("ct", "mr")), len(parts) - 1)
    below += below < len(parts) - 1 and parts[below] in ("train", "test")
    return "/".join(parts[below:]).split(".nii")[0]


def mask_credentials(text: str) -> str:
    """`text` with user, password and secret parameters of every address in it as ***: addresses are shown, logged and kept in reports."""
    user_and_password = r"(?<=://)(?:[^/\s:@]*:(?!\d+(?:/|\s|$))\S*@|[^/\s]*@)"  # a password may hold / and @, a port may not
    text = re.sub(user_and_password, "***@", text)
    return re.sub(r"(?i)([?&][\w-]*(?:pass|secret|token|key|sig)[\w-]*=)[^&#\s]+", r"\1***", text)


def _salt(start: Path) -> bytes:
    return os.environ[SALT_VARIABLE].encode() if os.environ.get(SALT_VARIABLE) else _salt_file(start)


@lru_cache(maxsize=8)
def _salt_file(start: Path) -> bytes:
    """The nearest salt at or above `start`, made in the project's folder when there is none. Empty outside of any project."""
    for folder in (start, *start.parents):
        if (folder / paths.SALT).is_file():
            return _read(folder / paths.SALT)
    try:
        root = paths.project_root(start)
    except UserError:
        return b""
    if ".dvc" in root.parts:  # a temporary copy that `dvc exp run --temp` works in, below the project itself
        root = Path(*root.parts[: root.parts.index(".dvc")])
    file = root / paths.SALT
    handle, name = tempfile.mkstemp(dir=root, prefix=".salt.")  # readable by its owner alone
    with os.fdopen(handle, "w") as beside:
        beside.write(secrets.token_hex(32) + "\n")
    try:
        os.link(name, file)  # unlike a rename, this loses against another process that was faster
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
    return _read(file)


def _read(file: Path) -> bytes:
    salt = file.read_bytes().strip()
    if len(salt) < 16:
        raise UserError(f"{file}: shorter than 16 characters, which guesses could find; restore it, or delete it to have a new one made")
    return salt
