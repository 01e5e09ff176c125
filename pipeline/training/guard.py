"""One training at a time, which ends with the dvc that started it: kill -9 of dvc alone would leave it running."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.processes import dvc_above

WAIT = 20.0  # seconds for a training that is just ending


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Hold `lock`; raise UserError where another training holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=WAIT)
    except Timeout:
        raise UserError(f"{lock}: another training is running in this folder; wait for it or stop it") from None
    try:
        yield
    finally:
        held.release()


def stop_asked() -> threading.Event:
    """An event set by SIGTERM, or when the dvc above this process, or the launcher of several devices, is gone."""
    event = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: event.set())
    for above in filter(None, (dvc_above(), psutil.Process().parent() if "LOCAL_RANK" in os.environ else None)):
        threading.Thread(target=_watch, args=(above, event), daemon=True).start()
    return event


def _watch(process: psutil.Process, event: threading.Event) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.5)
    event.set()
    time.sleep(30)  # a step may hang: then end without the last checkpoint
    os._exit(1)
