"""`ctmr schedule`: the flow by schedule on one machine, with a Prefect server of its own where none is named."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipeline.errors import UserError
from pipeline.processes import group
from pipeline.retraining import server
from pipeline.retraining.flow import retrain

START_SECONDS = 180  # a busy machine takes long to start a server for the first time


def serve_schedule(folder: Path, cron: str, port: int, **parameters: Any) -> None:
    """Serve the flow with the schedule `cron` until stopped. Raises UserError when `cron` is none."""
    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise UserError(f"--cron '{cron}': not a cron line; expected minute hour day month weekday, such as '0 3 * * 1'") from None
    with _server(folder, port):
        name, given = f"{server.project_name(folder)}-schedule", {"folder": str(folder), **parameters}
        retrain.serve(name=name, cron=cron, parameters=given, pause_on_shutdown=False)


@contextmanager
def _server(folder: Path, port: int) -> Iterator[None]:
    """A Prefect server on this machine for as long as the block lasts; none where PREFECT_API_URL names one.

    The temporary server that Prefect itself would start creates no scheduled runs. Raises UserError when the server does not start.
    """
    if PREFECT_API_URL.value():
        yield
        return
    address = f"http://127.0.0.1:{port}"
    if _healthy(address):
        raise UserError(f"a server runs on port {port} already: export PREFECT_API_URL={address}/api to use it, or choose another --port")
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with group(command, folder, capture=False) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _healthy(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"the Prefect server did not start; is port {port} in use? choose another with --port")
            time.sleep(0.2)
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            yield


def _healthy(address: str) -> bool:
    try:
        return bool(httpx.get(f"{address}/api/health", timeout=2).status_code == 200)
    except httpx.HTTPError:
        return False
