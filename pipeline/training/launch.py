"""Several devices, a process each, on one host or on several: torchrun's launcher, which its own $PET_... variables tell of other hosts."""

import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

HOSTS = "PET_NNODES"  # torchrun's own variable


def is_launched() -> bool:
    """Whether this process is one of several, started here or by torchrun from outside."""
    return "LOCAL_RANK" in os.environ


def launch(devices: int) -> None:
    """Run this stage in `devices` processes by torchrun's launcher and wait for them; when one dies, all end.

    With $PET_NNODES hosts, each runs its share of them; docs/scale.md has the variables.

    Raises UserError naming the process that died, and SystemExit with the exit code of one that has said itself what was wrong.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # each failure is told below, in one line
    config = _configuration(devices)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // config.nproc_per_node)))
    try:
        elastic_launch(config, sys.executable)("-m", "stages.train")
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


def _configuration(devices: int) -> "LaunchConfig":
    """For all `devices` on this host, or this host's share of them. Raises UserError where hosts cannot share them alike."""
    from torch.distributed.launcher.api import LaunchConfig
    from torch.distributed.run import config_from_args, parse_args

    hosts = os.environ.get(HOSTS, "1")
    if hosts == "1":
        return LaunchConfig(1, 1, devices, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.5)
    if not hosts.isdecimal() or devices % int(hosts):
        raise UserError(f"{HOSTS}={hosts}: {hosts} hosts cannot have as many each of the {devices} processes of train.devices")
    options = ["--nproc-per-node", str(devices // int(hosts)), "--max-restarts", "0", "--monitor-interval", "0.5"]
    config: LaunchConfig = config_from_args(parse_args([*options, "-m", "stages.train"]))[0]
    return config
