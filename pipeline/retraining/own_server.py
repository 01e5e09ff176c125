"""A Prefect server for those who have none: started here, started again when it fails, gone when this process is gone.

Prefect would start a temporary one by itself. It stays when its flow is killed, and creates no scheduled runs.
"""

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from pipeline import paths
from pipeline.errors import UserError, say
from pipeline.processes import group

START_SECONDS = 180  # a busy machine takes long to start a server for the first time
ANSWER_SECONDS = 30  # a server that is named may just be starting
SILENT_CHECKS = 12  # so many checks without an answer, then it is started again
CHECK_SECONDS = 5.0
MIB = 2**20
ROOM = 16 * MIB  # where less is free, the server starts, cannot make its tables, and is waited for in vain
LOCAL = ("127.0.0.1", "localhost", "::1")


@contextmanager
def prefect_server(folder: Path, port: int | None = None) -> Iterator[None]:
    """The server that PREFECT_API_URL names; where it names none, one of our own on `port` (None: a free one) while the block lasts.

    Raises UserError when the server that is named does not answer, or ours does not start.
    """
    _bypass_proxies()
    _check_network_settings()
    if PREFECT_API_URL.value():
        check_named_server(PREFECT_API_URL.value())
        yield
        return
    _check_home()
    if port is not None and is_healthy(f"http://127.0.0.1:{port}/api"):
        raise UserError(
            f"a server runs on port {port} already: export PREFECT_API_URL=http://127.0.0.1:{port}/api to use it, or choose another --port"
        )
    number = port or _free_port()
    with OwnServer(folder, number, services=port is not None) as server, temporary_settings({PREFECT_API_URL: server.address}):
        yield


def is_healthy(address: str) -> bool:
    """Whether the Prefect server whose API is at `address` answers."""
    try:
        # Without TLS, reading the machine's certificates would be nine tenths of the work.
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=5, verify=address.startswith("https:"))
        return bool(answer.status_code == 200)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


class OwnServer:
    """The server's process, watched by a thread for as long as the block lasts. `services`: whether it creates scheduled runs."""

    def __init__(self, folder: Path, port: int, services: bool) -> None:
        self.folder, self.port, self.address = folder, port, f"http://127.0.0.1:{port}/api"
        self._command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), *([] if services else ["--no-services"])]
        self._log = folder / paths.RETRAIN_WORK / ("schedule.log" if services else "server.log")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.touch()  # a project that may only be read is said before anything starts
        self._started, self._over = threading.Event(), threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "OwnServer":
        self._thread.start()
        try:
            while not self._started.wait(0.2):
                if self._failed:
                    raise UserError(f"the Prefect server did not start: {self._reason()}; see {self._log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _reason(self) -> str:
        """What the server printed of an error, such as a database that is none."""
        lines = [line for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if "Error: " in line]
        if any("disk is full" in line for line in lines):
            return f"no space left for {PREFECT_HOME.value()}/prefect.db, or for temporary files in {tempfile.gettempdir()}"
        if any("sqlite3" in line for line in lines):
            return f"{PREFECT_HOME.value()}/prefect.db: {lines[-1]}; move it away, and a new one is made"
        return lines[-1] if lines else f"is port {self.port} in use?"

    def _watch(self) -> None:
        """Run the server, again and again until the block ends; this thread is its parent, whose end it does not survive."""
        while not self._over.is_set() and not self._failed:
            try:
                self._run_once()
            except OSError as error:  # no room for its log, no memory for a process
                say(f"the Prefect server cannot be started: {error}")
                self._failed = not self._started.is_set()
            if not self._over.is_set() and not self._failed:
                say("the Prefect server ended; it is started again")
                self._over.wait(1)

    def _run_once(self) -> None:
        """Until it ends, stays silent, or the block is over; `_failed` where it never came up. OSError: it cannot be started."""
        with group(self._command, self.folder, log=self._log) as process:
            deadline = time.monotonic() + START_SECONDS
            while not is_healthy(self.address):
                if process.poll() is not None or time.monotonic() > deadline:
                    self._failed = not self._started.is_set()
                    return
                if self._over.wait(0.2):
                    return
            self._started.set()
            silent = 0
            while process.poll() is None and silent < SILENT_CHECKS and not self._over.wait(CHECK_SECONDS):
                silent = 0 if is_healthy(self.address) else silent + 1


def check_named_server(address: str) -> None:
    """Raises UserError when no Prefect server answers at `address`, that of its API."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not is_healthy(address):
        if time.monotonic() > deadline:
            raise UserError(
                f"PREFECT_API_URL={address}: no Prefect server answers there within {ANSWER_SECONDS} s; start it, or "
                "unset PREFECT_API_URL to do without"
            )
        time.sleep(1)


def _check_home() -> None:
    """Raises UserError where Prefect cannot keep its database, or has no room for it: it would try for ever."""
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise UserError(f"PREFECT_HOME={home}: cannot be written ({error.strerror}); name another folder in PREFECT_HOME") from None
    for place, variable in ((home, "PREFECT_HOME"), (Path(tempfile.gettempdir()), "TMPDIR")):
        if (free := shutil.disk_usage(place).free) < ROOM:
            needed = f"Prefect's database needs {ROOM / MIB:.0f} MiB there and {free / MIB:.0f} are free"
            raise UserError(f"{place}: {needed}; free some, or name another folder in {variable}")


def _bypass_proxies() -> None:
    """A server on this machine is not asked through the proxy that HTTP_PROXY or ALL_PROXY names for the world outside."""
    for variable in ("NO_PROXY", "no_proxy"):
        known = [host for host in os.environ.get(variable, "").split(",") if host]
        os.environ[variable] = ",".join([*known, *(host for host in LOCAL if host not in known)])


def _check_network_settings() -> None:
    """Raises UserError where the environment names a proxy, or a file of certificates, that is none: every call would fail on it."""
    try:
        httpx.Client().close()
    except (ValueError, OSError, httpx.InvalidURL) as error:
        names = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE"
        raise UserError(f"{names}: one of these names no proxy or no file of certificates ({error}); mend or unset it") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
