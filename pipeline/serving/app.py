"""`ctmr serve`: the web page and the addresses behind it. Nothing on the page comes from another host."""

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipeline.domain import Direction
from pipeline.errors import UserError, describe_os_error, say
from pipeline.processes import begin_service, raise_file_limit
from pipeline.serving.guard import Access, BrokenLimit, Guard, TimedProtocol
from pipeline.serving.jobs import Busy, Job, Jobs, Limits, models_to_serve, working_folder
from pipeline.serving.upload import take_upload
from pipeline.serving.worker import Worker

PAGE = Path(__file__).with_name("page.html")
LOCAL = ("127.0.0.1", "localhost", "[::1]")
TOKEN = "CTMR_SERVE_TOKEN"  # environment variable
STOP_SECONDS = 5  # that open requests get to end
ASK_SECONDS = 1  # between two looks whether the client of a waiting translation is still there

router = APIRouter()


@router.get("/")
async def show_page(request: Request) -> HTMLResponse:
    return HTMLResponse(request.app.state.page)


@router.get("/api/models")
async def list_models(request: Request) -> dict[str, Any]:
    """What the page shows of the models, and the limits that it states."""
    jobs: Jobs = request.app.state.jobs
    return {"models": list(jobs.models.values()), "keep_minutes": jobs.limits.keep_seconds / 60, "files": jobs.limits.files}


@router.post("/api/translations", status_code=202)
async def begin(request: Request) -> dict[str, str]:
    """Upload one file, a header and its voxels, or the files of one DICOM series; the answer's id leads to the result.

    Uncertainty takes eight times as long.
    """
    job = await take_upload(request)
    request.app.state.jobs.start(job)
    return {"id": job.id}


@router.get("/api/translations/{number}")
async def report_progress(request: Request, number: str) -> dict[str, Any]:
    job = _job(request, number)
    return {"state": job.state, "done": job.done, "slices": job.slices, "error": job.error, "facts": job.facts}


@router.get("/api/translations/{number}/slices/{which}")
async def send_pixels(request: Request, number: str, which: str) -> Response:
    """Source, translation and, where asked for, uncertainty of one slice, little-endian int16 after each other: Hounsfield units, or
    thousandths of grey."""
    job = _finished_job(request, number)
    names = ("before", "after", "uncertainty") if job.task.with_uncertainty else ("before", "after")
    if which not in map(str, range(job.facts["slices"])):
        raise HTTPException(404, f"no such slice; there are {job.facts['slices']}, counted from 0")
    pixels = [np.load(job.task.folder / f"{name}.npy", mmap_mode="r")[int(which)].tobytes() for name in names]
    return Response(b"".join(pixels), media_type="application/octet-stream")


@router.get("/api/translations/{number}/download")
async def download(request: Request, number: str) -> FileResponse:
    job = _finished_job(request, number)
    assert job.output is not None
    return FileResponse(job.output, filename=job.output.name)


@router.post("/translate")
async def translate_at_once(request: Request) -> FileResponse:
    """For scripts: the files in, the translated file out, in one request. Nothing of it is kept."""
    jobs: Jobs = request.app.state.jobs
    job = await take_upload(request)
    try:
        await _wait(request, job, jobs.start(job))
        if job.state == "failed":
            raise UserError(job.error)
        assert job.output is not None
    except BaseException:
        jobs.drop(job)
        raise
    model = jobs.models[job.task.to]["label"]
    return FileResponse(job.output, filename=job.output.name, headers={"X-Model": model}, background=BackgroundTask(jobs.drop, job))


async def _wait(request: Request, job: Job, translation: "Future[None]") -> None:
    """Wait for the end of the job. Raises ClientDisconnect when its client goes away while others are translated; then it is not begun."""
    ended = asyncio.wrap_future(translation)
    while not ended.done():
        await asyncio.wait([ended], timeout=ASK_SECONDS)
        if job.state == "waiting" and await request.is_disconnected() and translation.cancel():
            raise ClientDisconnect
    await ended


async def refuse(_: Request, error: UserError) -> JSONResponse:
    """What a user or an administrator can mend, in one line."""
    return JSONResponse({"error": str(error)}, status_code=503 if isinstance(error, Busy) else 422)


async def refuse_request(_: Request, error: HTTPException) -> JSONResponse:
    """What is not here, or is no form; every refusal has its line under `error`."""
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def refuse_upload(_: Request, error: BrokenLimit) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=error.status, headers={"connection": "close"})


async def forget_upload(_: Request, error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # for the log: the client went away before its upload was complete


async def report_system_error(_: Request, error: OSError) -> JSONResponse:
    """What this machine lacks, to whoever runs the server in its log with the place, to others without."""
    if (line := describe_os_error(error)) is None:
        raise error
    logging.getLogger("ctmr.serve").error("%s", line)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JSONResponse({"error": "this server's disk is full; tell who runs it"}, status_code=507)
    return JSONResponse({"error": "this server cannot take it now, and its log says why; tell who runs it"}, status_code=503)


ANSWERS: dict[Any, Any] = {
    UserError: refuse,
    HTTPException: refuse_request,
    BrokenLimit: refuse_upload,
    ClientDisconnect: forget_upload,
    OSError: report_system_error,
}


def create_app(models: Mapping[str, str | None], limits: Limits | None = None, access: Access | None = None) -> FastAPI:
    """The application. `models` as for `Worker`: for each thing to make (ct, mr) a model's name or folder, or None for the champion, else
    the box.

    Starts the process that translates. Raises UserError when a model cannot be loaded.
    """
    limits, page = limits or Limits(), PAGE.read_text(encoding="utf-8")
    worker = Worker(models, limits.translation)
    described = worker.start()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with working_folder() as folder:
            app.state.jobs = Jobs(worker, described, folder, limits)
            sweeping = asyncio.create_task(_sweep(app.state.jobs))
            try:
                yield
            finally:
                sweeping.cancel()
                app.state.jobs.close()

    app = FastAPI(lifespan=lifespan, exception_handlers=ANSWERS, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.state.described, app.state.page = described, page
    app.add_middleware(Guard, access=access or Access(), limits=limits, page=page)
    app.include_router(router)
    return app


def serve_page(host: str, port: int, models: list[str], allow_hosts: list[str], user_header: str | None = None) -> None:
    """Serve the page until interrupted. `models`: as for translate, at most one for each direction; default: champions, else the box.

    On an address that other machines reach, each request needs a token ($CTMR_SERVE_TOKEN, else one made now and printed) or, behind a
    reverse proxy, the user that it names in `user_header`. `allow_hosts`: further names by which the server may be called.
    Raises UserError when there is no model to serve or the port is taken.
    """
    _check_port(host, port)
    raise_file_limit()
    access = choose_access(host, allow_hosts, user_header, os.environ.get(TOKEN))
    names = models_to_serve(models)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logging.getLogger("ctmr").addHandler(handler)
    logging.getLogger("ctmr").setLevel(logging.INFO)
    app = create_app(names, access=access)
    begin_service()
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))  # a closed terminal stops it in order, too
    say(f"open {address(host, port, access.token)} to translate to {' or '.join(to.upper() for to in names)} (Ctrl-C stops)")
    if _in_address(host) not in LOCAL:
        say("warning: other machines can reach this; uploads travel unencrypted unless a reverse proxy adds TLS")
    for to, model in app.state.described.items():
        say(f"{Direction.from_target(to).arrow} by {model['label']}")
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        http=TimedProtocol,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def choose_access(host: str, allow_hosts: list[str], user_header: str | None, token: str | None) -> Access:
    """Who may use a server that listens on `host`; see `serve_page`."""
    host = _in_address(host)
    if host in LOCAL:
        return Access((*LOCAL, *allow_hosts), token, user_header, log_requests=bool(token or user_header))
    addresses = [address.address.partition("%")[0] for card in psutil.net_if_addrs().values() for address in card]
    own = [f"[{address}]" if ":" in address else address for address in addresses]
    hosts = dict.fromkeys((*LOCAL, host, socket.gethostname(), socket.getfqdn(), *own, *allow_hosts))
    return Access(tuple(hosts), None if user_header else token or secrets.token_urlsafe(16), user_header, log_requests=True)


def address(host: str, port: int, token: str | None) -> str:
    """The address to open: with the token, in which no character may be taken for another."""
    return f"http://{_in_address(host)}:{port}" + (f"/?token={quote(token, safe='')}" if token else "")


def _in_address(host: str) -> str:
    """`host` as addresses and requests name it: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None


async def _sweep(jobs: Jobs) -> None:
    """Delete results that are old, whether or not anybody asks for new ones."""
    while True:
        await asyncio.sleep(min(60, jobs.limits.keep_seconds))
        jobs.forget_old()


def _job(request: Request, number: str) -> Job:
    job: Job | None = request.app.state.jobs.get(number)
    if job is None:
        raise HTTPException(404, "this translation is not here any more; upload the file again")
    return job


def _finished_job(request: Request, number: str) -> Job:
    job = _job(request, number)
    if job.state != "done":
        raise HTTPException(409, job.error or "not finished yet")
    return job
