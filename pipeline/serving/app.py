"""`ctmr serve`: the web page and the addresses behind it. Nothing on the page comes from another host."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipeline.errors import UserError
from pipeline.serving.command import MODELS, choose
from pipeline.serving.jobs import Busy, Job, Jobs, Limits
from pipeline.serving.translator import Translator

PAGE = Path(__file__).with_name("page.html")
LOCAL = ("127.0.0.1", "localhost")


def create_app(translators: Mapping[str, Translator], limits: Limits | None = None, hosts: Sequence[str] = ("*",)) -> FastAPI:
    """The application for `translators`, by what they make (ct, mr); `hosts` are the names by which it may be called."""
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with tempfile.TemporaryDirectory(prefix="ctmr-serve-") as folder:
            app.state.jobs = Jobs(translators, Path(folder), limits)
            sweeping = asyncio.create_task(_sweep(app.state.jobs))
            yield
            sweeping.cancel()
            app.state.jobs.close()

    app = FastAPI(title="ctmr", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(_SizeLimit, limit=limits.bytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.exception_handler(UserError)
    async def refused(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_code=503 if isinstance(error, Busy) else 422)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE.read_text(encoding="utf-8"))

    @app.get("/api/models")
    async def models() -> list[dict[str, Any]]:
        return [_facts(to, translator) for to, translator in translators.items()]

    @app.post("/api/translations", status_code=202)
    async def begin(
        request: Request,
        files: list[UploadFile],
        to: Annotated[str, Form()],
        contrast: Annotated[str, Form()] = "",
        doubt: Annotated[bool, Form()] = False,
    ) -> dict[str, str]:
        """Upload one file, or the files of one DICOM series; the answer's id leads to the result. Doubt takes eight times as long."""
        job = await _uploaded(request.app.state.jobs, files, to, contrast, limits, doubt)
        request.app.state.jobs.start(job)
        return {"id": job.id}

    @app.get("/api/translations/{number}")
    async def progress(request: Request, number: str) -> dict[str, Any]:
        job = _job(request, number)
        return {"state": job.state, "done": job.done, "slices": job.slices, "error": job.error, "facts": job.facts}

    @app.get("/api/translations/{number}/slices/{which}")
    async def pixels(request: Request, number: str, which: int) -> Response:
        """Source, translation and, where asked for, doubt of one slice, little-endian int16 after each other: Hounsfield units, or
        thousandths of grey."""
        job = _finished(request, number)
        names = ("before", "after", "doubt") if job.with_doubt else ("before", "after")
        if not 0 <= which < job.facts["slices"]:
            raise HTTPException(404, f"no slice {which}")
        pixels = [np.load(job.folder / f"{name}.npy", mmap_mode="r")[which].tobytes() for name in names]
        return Response(b"".join(pixels), media_type="application/octet-stream")

    @app.get("/api/translations/{number}/download")
    async def download(request: Request, number: str) -> FileResponse:
        job = _finished(request, number)
        assert job.output is not None
        return FileResponse(job.output, filename=job.output.name)

    @app.post("/translate")
    async def at_once(
        request: Request, files: list[UploadFile], to: Annotated[str, Form()], contrast: Annotated[str, Form()] = ""
    ) -> FileResponse:
        """For scripts: the files in, the translated file out, in one request."""
        jobs: Jobs = request.app.state.jobs
        job = await _uploaded(jobs, files, to, contrast, limits)
        await asyncio.wrap_future(jobs.start(job))
        if job.state == "failed":
            raise UserError(job.error)
        assert job.output is not None
        return FileResponse(job.output, filename=job.output.name, headers={"X-Model": str(translators[to].label)})

    return app


def serve_page(host: str, port: int, models: Sequence[str]) -> None:
    """Serve the page until interrupted. `models`: as for translate, at most one for each direction; default: the champions there are.

    Raises UserError when there is no model to serve or the port is taken.
    """
    import uvicorn

    translators = _translators(models)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port") from None
    app = create_app(translators, hosts=LOCAL if host in LOCAL else ("*",))
    print(f"open http://{host}:{port} to translate to {' or '.join(one.upper() for one in translators)} (Ctrl-C stops)", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def _translators(models: Sequence[str]) -> dict[str, Translator]:
    if not models:
        found, problems = {}, []
        for to in MODELS:
            try:
                found[to] = choose(None, to)
            except UserError as error:
                problems.append(str(error))
        if not found:
            raise UserError(f"no champion to serve: {problems[0]}; or name a model: ctmr serve --model models/")
        return found
    if len(models) == 1 and Path(models[0]).is_dir():
        return {to: choose(models[0], to) for to in MODELS}
    chosen = {}
    for model in models:
        to = next((one for one, name in MODELS.items() if model.startswith(name)), "")
        if not to:
            raise UserError(f"--model {model}: expected {' or '.join(MODELS.values())}, with @alias or /version, or a folder")
        chosen[to] = choose(model, to)
    return chosen


def _facts(to: str, translator: Translator) -> dict[str, Any]:
    label = translator.label
    window = translator.preprocess.ct_window
    return {
        "to": to,
        "name": label.name,
        "version": label.version,
        "weights": label.digest[:12],
        "scores": label.scores,
        "size": translator.preprocess.pixels,
        "contrasts": translator.conditional,
        "window": [window.level, window.width],
    }


async def _uploaded(jobs: Jobs, files: list[UploadFile], to: str, contrast: str, limits: Limits, doubt: bool = False) -> Job:
    if len(files) > limits.files:
        raise UserError(f"{len(files)} files; at most {limits.files} are taken at once")
    job = jobs.new(to, contrast or None, doubt)
    try:
        for number, file in enumerate(files):
            name = Path(file.filename or "upload").name.replace("\0", "")[-100:].lstrip(".") or "upload"
            place = job.folder / "in" / (name if len(files) == 1 else f"{number:05d}-{name}")
            with place.open("wb") as copy:
                while chunk := await file.read(2**20):
                    copy.write(chunk)
    except BaseException:
        jobs.drop(job)
        raise
    return job


async def _sweep(jobs: Jobs) -> None:
    """Delete results that are old, whether or not anybody asks for new ones."""
    while True:
        await asyncio.sleep(60)
        jobs.forget_old()


def _job(request: Request, number: str) -> Job:
    job: Job | None = request.app.state.jobs.get(number)
    if job is None:
        raise HTTPException(404, "this translation is not here any more; upload the file again")
    return job


def _finished(request: Request, number: str) -> Job:
    job = _job(request, number)
    if job.state != "done":
        raise HTTPException(409, job.error or "not finished yet")
    return job


class _SizeLimit:
    """Ends a request whose body is longer than `limit` bytes with status 413, whatever its header claims."""

    def __init__(self, app: Callable[..., Awaitable[None]], limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer = JSONResponse({"error": f"more than {self.limit / 2**20:.0f} MiB at once; use ctmr translate"}, status_code=413)
        claimed = dict(scope["headers"]).get(b"content-length", b"0")
        if not claimed.isdigit() or int(claimed) > self.limit:
            return await answer(scope, receive, send)
        seen = 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise _TooLong
            return message

        try:
            await self.app(scope, counted, send)
        except _TooLong:
            await answer(scope, receive, send)


class _TooLong(Exception):
    pass
