"""Child processes that live and end as one group: started in a session of their own, stopped whole, gone when we are gone."""

import ctypes
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

import psutil

from pipeline.errors import UserError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OF_A_HOOK = {
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
}  # git rev-parse --local-env-vars
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # by which a person or the system ends a process: Ctrl-C, kill, a closed terminal


class Stop:
    """A wish to end that the handler of a signal may make: without a lock, since a second signal may find the first one's handler at it."""

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        self._asked = True

    def is_set(self) -> bool:
        return self._asked


def die_with_parent() -> None:
    """Called in a child process: end (SIGTERM) when the process that started it ends, even by SIGKILL. Linux only."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def begin_service() -> None:
    """Called by what runs for months, once all is imported: garbage is looked for as often as Python does by itself (see cli.main)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 10)


def raise_file_limit(most: int = 2**16) -> None:
    """Let this process, and those it starts, open as many files as the system allows it: shells set a lower limit, often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment, with the programs of this Python's environment first, so that `python` in dvc.yaml means this one.

    What git tells its hooks is left out: it would lead every git below a hook, in whatever folder, to the hook's repository and index.
    """
    ours = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    return {**ours, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}", **(extra or {})}


def ask_git(*arguments: str, folder: Path = Path()) -> str:
    """What git says in `folder`; "" where there is no git, no repository or no answer."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ended.stdout.strip() if ended.returncode == 0 else ""


@contextmanager
def group(
    command: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    grace: float = 5,
    capture: bool = True,
    log: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` in `folder` as the leader of its own session; when the block ends, however it ends, stop what is left of the group.

    Those left are asked to end (SIGTERM) and killed after `grace` seconds. stdout and stderr go to the file `log`, which begins anew, else
    together to `process.stdout` (`capture`), else to our own. The leader gets SIGTERM as well when this process, or the thread that started
    it, is killed.
    """
    with log.open("wb") if log else nullcontext() as file:
        joined = {"stdout": file or subprocess.PIPE, "stderr": subprocess.STDOUT} if file or capture else {}
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
            **joined,  # type: ignore[call-overload]
        )
    try:
        yield process
    finally:
        stop_group(process, grace)
        if process.stdout:
            process.stdout.close()


def stop_group(process: "subprocess.Popen[bytes]", grace: float) -> None:
    """End every process of the session that `process` leads: SIGTERM, then after `grace` seconds SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        members = [member for member in psutil.process_iter() if _session(member.pid) == process.pid]
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        psutil.wait_procs(members, timeout=grace)
    process.wait()


def read_lines(stream: IO[bytes]) -> Iterator[str]:
    """Lines as they come, without empty ones; of a progress bar, which overwrites itself with carriage returns, each state is a line."""
    rest = b""
    while chunk := stream.read1(65536):  # type: ignore[attr-defined]
        *complete, rest = re.split(rb"[\r\n]+", rest + chunk)
        yield from (text for line in complete if (text := line.decode("utf-8", "replace").rstrip()))
    if text := rest.decode("utf-8", "replace").rstrip():
        yield text


def dvc_above() -> psutil.Process | None:
    """The process that runs this one as a stage of DVC's graph, None outside of one.

    DVC tells each stage its name in $DVC_STAGE: the nearest process above that does not have that name is DVC, however it was started.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None:
        return None
    for process in psutil.Process().parents():
        with suppress(psutil.Error):
            if process.environ().get("DVC_STAGE") != stage:
                return process
    return None


@contextmanager
def hold_lock(file: Path, what: str, wait: float = 20) -> Iterator[None]:
    """Hold the lock `file`, which one process can have; raise UserError where another `what` has it for `wait` seconds."""
    from filelock import FileLock, Timeout

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise UserError(f"{file}: another {what} is at work in this project; wait for it or stop it", retryable=True) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def ends_with_parent(seconds: float = 1) -> Iterator[None]:
    """Within the block, this process gets SIGTERM when its parent is gone, which is looked for every so many `seconds`."""
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def abandoned_folders(prefix: str) -> list[Path]:
    """Folders `prefix`… for temporary files whose process is gone; it holds the file `lock` in its folder while it lives."""
    from filelock import FileLock, Timeout

    found = []
    for file in Path(tempfile.gettempdir()).glob(f"{prefix}*/lock"):
        with suppress(Timeout, OSError), FileLock(file, timeout=0):
            found.append(file.parent)
    return found
