"""A page server on a free port of this machine, in a thread of the test."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from pipeline.serving.app import STOP_SECONDS, create_app
from pipeline.serving.guard import Access, TimedProtocol
from pipeline.serving.jobs import Limits


@dataclass(frozen=True)
class Page:
    """A running server and its application."""

    address: str
    port: int
    app: FastAPI


@contextmanager
def running_page(models: Mapping[str, str | None], limits: Limits | None = None, access: Access | None = None) -> Iterator[Page]:
    """Serve until the block ends."""
    port = free_port()
    app = create_app(models, limits, access)
    config = uvicorn.Config(app, port=port, log_level="error", http=TimedProtocol, timeout_graceful_shutdown=STOP_SECONDS)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield Page(f"http://127.0.0.1:{port}", port, app)
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
