"""A Prefect server on a PostgreSQL of its own, workers that can be killed, and a receiver of webhooks; all gone when their block ends."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from pipeline.processes import group
from pipeline.retraining.server import project_name
from tests.graph.projects import BIN, Project
from tests.tracking.servers import free_port, postgresql

POLL_SECONDS = 1.0  # each look takes a server, or a list of all processes


@dataclass(frozen=True)
class Server:
    """The API below `address`, asked by one client: a new one reads the machine's certificates for each question."""

    address: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(verify=False, timeout=30), repr=False)

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        answer = self.client.request(method, f"{self.address}{path}", json=content)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def healthy(self) -> bool:
        try:
            return bool(self.client.get(f"{self.address}/health", timeout=2).status_code == 200)
        except httpx.HTTPError:
            return False

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs that have begun, the oldest first."""
        begun = {"start_time": {"is_null_": False}}
        found: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", {"flow_runs": begun})
        return sorted(found, key=lambda run: run["start_time"])

    def start(self, deployment: str, **parameters: Any) -> str:
        """A run of the deployment now; gives its id."""
        known = self.ask("GET", f"/deployments/name/retrain/{deployment}")
        wanted = {"parameters": {**known["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
        return str(self.ask("POST", f"/deployments/{known['id']}/create_flow_run", wanted)["id"])

    def state(self, run_id: str) -> str:
        return str(self.ask("GET", f"/flow_runs/{run_id}")["state_name"])

    def logs(self, run_id: str) -> list[str]:
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": 200, "offset": 0}
        lines: list[str] = []
        while page := self.ask("POST", "/logs/filter", wanted):
            lines += [entry["message"] for entry in page]
            wanted["offset"] = len(lines)
        return lines


@contextmanager
def prefect_server(folder: Path) -> Iterator[Server]:
    port = free_port()
    with postgresql() as database:
        url = database.replace("postgresql://", "postgresql+asyncpg://")
        env = {
            "PREFECT_HOME": str(folder),
            "PREFECT_API_DATABASE_CONNECTION_URL": url,
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        }
        env |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        with group([str(BIN / "prefect"), "server", "start", "--port", str(port)], folder, env=env, capture=False):
            server = Server(f"http://127.0.0.1:{port}/api")
            until(server.healthy, "the server")
            yield server


@contextmanager
def worker(project: Project) -> Iterator["subprocess.Popen[bytes]"]:
    """A process worker of the project's pool."""
    command = [str(BIN / "prefect"), "worker", "start", "--pool", project_name(project.folder)]
    with group(command, project.folder, env=project.environment(), capture=False) as process:
        yield process


def kill(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to the worker alone, as a machine short of memory does it."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def webhooks() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(address, what was posted there so far)."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        server.server_close()


def until(ready: Callable[[], Any], what: str, seconds: float = 400) -> Any:
    """What `ready` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(POLL_SECONDS)
    return found
