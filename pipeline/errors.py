"""Errors that the user can mend: one clear line and exit code 2, never a traceback."""

import errno
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path

ERROR_FILE = "CTMR_ERROR_FILE"  # environment variable: the file in which a process that ends on a UserError leaves its facts


def mask_credentials(text: str) -> str:
    """`text` with user, password and secret parameters of every address in it as ***: addresses are shown, logged and kept in reports."""
    user_and_password = r"(?<=://)(?:[^/\s:@]*:(?!\d+(?:/|\s|$))\S*@|[^/\s]*@)"  # a password may hold / and @, a port may not
    text = re.sub(user_and_password, "***@", text)
    text = re.sub(r"(?i)([?&#;][\w-]*(?:pass|pwd|secret|token|key|sig|auth|credential)[\w-]*=)[^&#;\s]+", r"\1***", text)
    return re.sub(r"(?i)(?<!\S)((?:password|passwd|pwd|secret|token)=)[^&#;\s]+", r"\1***", text)  # libpq's host=db password=...


DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a disk says to a writer
_SHARED_MEMORY = "/dev/shm"
LITTLE = 2**20  # bytes; a disk with less is full for what we write


def as_one_line(text: str) -> str:
    """`text` in one line for a terminal: what a name of a file has of line breaks and control characters is written by its number."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape", "surrogateescape").decode() for letter in text)


class UserError(Exception):
    """Something the user can mend. The message says, in one line, what is wrong, where, what was expected and what to do.

    Messages are printed, logged and kept in reports: addresses in them lose their credentials here, so that no caller has to think of it.

    `retryable`: the same call may succeed later with nothing changed (a server that is down or busy, a connection that broke).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(mask_credentials(message))
        self.retryable = retryable


_ADVICE = {
    errno.ENOSPC: "no space left on the disk; free some and run again",
    errno.EDQUOT: "disk quota used up; free some space and run again",
    errno.EROFS: "the file system is read-only; write somewhere else",
    errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter one",
    errno.EACCES: "permission denied; check the owner and mode of this path",
    errno.EFBIG: "the file would be larger than this disk or the limit of this shell allows; see ulimit -f",
    errno.EMFILE: "too many open files; allow more (ulimit -n) and run again",
}


def say(line: str) -> None:
    """A line of a service, for its terminal or log. Where that takes none, on a full disk or a closed pipe, the service goes on without."""
    with suppress(OSError):
        print(line, flush=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """End the process with one line on stderr and exit code 2 on a mendable error; any other exception is a defect and passes.

    A process that is asked to end (SIGTERM, SIGHUP) ends as by Ctrl-C. A letter that the terminal lacks, of a file's name say, is printed
    by its number. A parent process that wants more than the line sets `$CTMR_ERROR_FILE` and reads it with `read_error`.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)  # as Ctrl-C: what is half written is removed
    _open_standard_streams()
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except UserError as error:
        _end(str(error), error.retryable)
    except MemoryError:
        _end("not enough memory; close other programs, or allow this one more (ulimit -v), and run again")
    except RuntimeError as error:
        if "home directory" not in str(error):  # of pathlib, in a container with a user that the system does not know
            raise
        _end("this user has no home folder; set HOME to a folder that may be written, and run again")
    except (OSError, ModuleNotFoundError) as error:
        line = describe_os_error(error) if isinstance(error, OSError) else describe_missing(error)
        if line is None:
            raise
        _end(line)


def _open_standard_streams() -> None:
    """Where a process was started without stdin, stdout or stderr, its first files would get their numbers, and what is printed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def describe_missing(error: ModuleNotFoundError) -> str | None:
    """One line for a package that this installation does not have; None for a module of this project, or of a package that is there."""
    package = (error.name or "").partition(".")[0]
    if not package or package in sys.modules or find_spec(package):
        return None
    return f"this needs {package}, which is not installed: pip install 'ctmr[train]', or 'ctmr[registry]' to use registered models only"


def describe_os_error(error: OSError) -> str | None:
    """One line for an error of the system: what it says, where, and what to do where that is known. None for an error of a library."""
    if error.errno is None:
        return None
    advice = _ADVICE.get(error.errno)
    full = find_full_scratch() if error.errno == errno.ENOSPC else None
    if advice and not error.filename and _stdout_is_full():
        return f"stdout, to wherever it leads: {advice}"
    unnamed = full or (f"the disk, temporary files in {_scratch()}, or shared memory in {_SHARED_MEMORY}" if advice else "the system")
    copied_to = error.filename2 if error.errno in DISK_ERRORS else None  # of a copy that failed the first name is the source's
    where = copied_to or error.filename or unnamed
    return f"{where}: {advice or str(error.strerror).lower()}"


def _stdout_is_full() -> bool:
    """Whether stdout takes not even the end of a line: the error does not say it, and what could not be written is gone from the buffer."""
    try:
        os.write(1, b"\n")
    except OSError as error:
        return error.errno in DISK_ERRORS
    return False


def find_full_scratch(beside: Path | None = None) -> str | None:
    """The place for temporary files, or shared memory, where one of them is full; of another disk than that of the folder `beside`."""
    for place, name in ((_scratch(), "for temporary files; TMPDIR names another"), (_SHARED_MEMORY, "shared memory")):
        with suppress(OSError):
            state = os.statvfs(place)
            full = state.f_bavail * state.f_frsize < LITTLE or (state.f_files > 0 and state.f_favail == 0)
            if full and (beside is None or beside.stat().st_dev != Path(place).stat().st_dev):
                return f"{place} ({name})"
    return None


def _scratch() -> str:
    """The folder for temporary files; where there is none that can be written, what is asked for."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return os.environ.get("TMPDIR", "/tmp")


def as_user_error(error: Exception) -> UserError | None:
    """`error` in one line where the user can mend it, None for a defect."""
    if isinstance(error, UserError):
        return error
    line = describe_os_error(error) if isinstance(error, OSError) else None
    return UserError(line) if line else None


def read_error(file: Path) -> UserError | None:
    """The error on which a child process with `$CTMR_ERROR_FILE` = `file` ended; None when it left none."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # ValueError: half of it, by a child that was killed or had no room
        return None
    return UserError(facts["message"], retryable=facts["retryable"])


def _end(message: str, retryable: bool = False) -> None:
    line = as_one_line(" ".join(message.split()))
    with suppress(OSError):
        print(f"error: {line}", file=sys.stderr, flush=True)
    if os.environ.get(ERROR_FILE):
        with suppress(OSError):
            Path(os.environ[ERROR_FILE]).write_text(json.dumps({"message": line, "retryable": retryable}), encoding="utf-8")
    raise SystemExit(2)
