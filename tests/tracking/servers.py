"""A real MLflow server on a PostgreSQL of its own, both gone when the block ends."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.processes import group

_PLACES = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
POSTGRES = shutil.which("postgres", path=os.pathsep.join([os.environ["PATH"], *_PLACES]))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def postgresql() -> Iterator[str]:
    """Address of an empty database. PostgreSQL refuses to run as root; then its own user does."""
    assert POSTGRES is not None
    tools = Path(POSTGRES).resolve().parent
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        user = []
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
            user = ["runuser", "-u", "postgres", "--"]
        data = f"{folder}/data"
        subprocess.run(
            [*user, tools / "initdb", "-D", data, "-U", "test", "--auth=trust", "--no-sync"], cwd=folder, check=True, capture_output=True
        )
        port = free_port()
        settings = ["-c", f"port={port}", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off", "-c", "listen_addresses=127.0.0.1"]
        with group([*user, POSTGRES, "-D", data, *settings], Path(folder), capture=False):
            _until(lambda: subprocess.run([tools / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False).returncode == 0)
            yield f"postgresql://test@127.0.0.1:{port}/postgres"


@contextmanager
def mlflow_server(backend: str, folder: Path, port: int = 0) -> Iterator[str]:
    """Address of an MLflow server that keeps runs in `backend` and artifacts, served by it, in `folder`; port 0: any free one."""
    port = port or free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", backend, "--artifacts-destination", folder.as_uri()]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with group(command, folder, env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, capture=False):
        address = f"http://127.0.0.1:{port}"
        _until(lambda: _answers(f"{address}/health"))
        yield address


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _until(ready, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not ready after {seconds} s"
        time.sleep(0.2)
