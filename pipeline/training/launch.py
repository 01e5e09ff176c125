"""Several devices on one host, a process each."""

import logging
import os
import signal
import sys

from pipeline.errors import UserError


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
