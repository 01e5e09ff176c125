"""A team's servers for tests: `make cluster` in a folder and a loopback network of its own, gone when the block ends."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.processes import group
from tests.graph.prefect_server import until
from tests.graph.projects import SOURCE

COMMAND = SOURCE / "deploy/without_containers.py"
# A worker of Dask without work looks a hundred times a second at what it does: a sixth of a core for two.
QUIET = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s"}


@dataclass(frozen=True)
class Team:
    """Running servers: `env` is what cluster.env sets, `printed` the file with what the command says, `process` the command itself."""

    folder: Path
    env: Mapping[str, str]
    printed: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)

    def kill(self, words: str) -> None:
        """SIGKILL to the service in whose command line these `words` stand, with all that it started."""
        (leader,) = [child for child in psutil.Process(self.process.pid).children() if words in " ".join(child.cmdline())]
        for victim in (*leader.children(recursive=True), leader):
            with suppress(psutil.NoSuchProcess):  # one ends with another
                victim.kill()

    def restarted(self, name: str) -> bool:
        return f"{name} ended; it is started again" in self.printed.read_text()

    def s3(self) -> Any:
        """A client of the S3 server."""
        import boto3

        keys = {"aws_access_key_id": self.env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": self.env["AWS_SECRET_ACCESS_KEY"]}
        return boto3.client("s3", endpoint_url=self.env["AWS_ENDPOINT_URL"], region_name="us-east-1", **keys)

    def keys(self, prefix: str) -> list[str]:
        """Names of all objects below `prefix` in the bucket."""
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket="ctmr", Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@contextmanager
def team(folder: Path, *services: str) -> Iterator[Team]:
    """The `services`, and those that they need, started in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    printed = folder / "printed"
    pid = os.getpid()
    network = f"127.{16 + pid // 256 % 200}.{pid % 256}"
    command, env = [sys.executable, str(COMMAND), "--network", network, *services], {"PYTHONPATH": str(SOURCE), **QUIET}
    with group(command, folder, env=env, grace=30, log=printed) as process:
        variables = folder / "cluster.env"
        until(lambda: variables.is_file() or process.poll() is not None, "the servers", 600)
        assert process.poll() is None, printed.read_text() + _logs(folder)
        yield Team(folder, _parse(variables), printed, process)
        started = psutil.Process(process.pid).children(recursive=True)
    left = [child for child in started if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left, "servers outlive make cluster"


def _parse(file: Path) -> dict[str, str]:
    words = shlex.split(file.read_text())
    return dict(word.split("=", 1) for word in words if word != "export")


def _logs(folder: Path) -> str:
    return "\n".join(f"== {file.name}\n{file.read_text()[-1500:]}" for file in sorted((folder / ".cluster").glob("*.log")))
