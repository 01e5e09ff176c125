"""Errors that the user can mend: one clear line and exit code 2, never a traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user can mend. The message says, in one line, what is wrong, where, what was expected and what to do."""


_MENDABLE = {
    errno.ENOSPC: "no space left on the disk; free some and run again",
    errno.EDQUOT: "disk quota used up; free some space and run again",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.EACCES: "permission denied; check the owner and mode of this path",
}


@contextmanager
def user_errors() -> Iterator[None]:
    """End the process with one line on stderr and exit code 2 on a mendable error; any other exception is a defect and passes."""
    try:
        yield
    except UserError as error:
        _end(str(error))
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        _end(f"{error.filename or 'writing an output'}: {_MENDABLE[error.errno]}")


def _end(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    raise SystemExit(2)
