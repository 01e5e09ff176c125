"""The processes of a training: one training at a time, which ends with the dvc that started it, and several devices on one host."""

import logging
import os
import signal
import sys
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
def hold_training_lock(file: Path) -> Iterator[None]:
    """Hold the lock `file`; raise UserError where another training holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=WAIT)
    except Timeout:
        raise UserError(f"{file}: another training is running in this folder; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def watch_for_stop() -> threading.Event:
    """An event set by SIGTERM, or when the dvc above this process, or the launcher of several devices, is gone.

    kill -9 of dvc alone would leave the training running.
    """
    event = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: event.set())
    for above in filter(None, (dvc_above(), psutil.Process().parent() if is_launched() else None)):
        threading.Thread(target=_watch, args=(above, event), daemon=True).start()
    return event


def _watch(process: psutil.Process, event: threading.Event) -> None:
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.5)
    event.set()
    time.sleep(30)  # a step may hang: then end without the last checkpoint
    os._exit(1)


def is_launched() -> bool:
    """Whether this process is one of several, started here or by torchrun from outside."""
    return "LOCAL_RANK" in os.environ


def launch(devices: int) -> None:
    """Run this stage in `devices` processes by torchrun's launcher and wait for them; when one dies, all end.

    Raises UserError naming the process that died, and SystemExit with the exit code of one that has said itself what was wrong.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # each failure is told below, in one line
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    one_host = LaunchConfig(1, 1, devices, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.5)
    try:
        elastic_launch(one_host, sys.executable)("-m", "stages.train")
    except ChildFailedError as error:
        # A process whose partner was killed may fail before that is seen, so who was killed is asked first; SIGTERM is the launcher's own.
        killed = [item for item in error.failures.items() if item[1].exitcode < 0 and item[1].exitcode != -signal.SIGTERM]
        rank, failure = killed[0] if killed else error.get_first_failure()
        if failure.exitcode > 0:
            raise SystemExit(failure.exitcode) from None
        raise UserError(
            f"training process {rank} of {devices} was killed by signal {-failure.exitcode}, so all were ended; "
            "dvc repro goes on from the last checkpoint"
        ) from None
    except SignalException as error:
        raise UserError(f"training was ended by signal {error.sigval.value}; dvc repro goes on from the last checkpoint") from None
