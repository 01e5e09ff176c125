"""Translations asked for by many at once: one after the other, results on the disk until their time is over."""

import contextlib
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from pipeline import paths
from pipeline.domain import DIRECTIONS
from pipeline.errors import UserError
from pipeline.formats.table import FORMATS, HEADERS, VOXELS
from pipeline.formats.values import parse_ct_values
from pipeline.processes import abandoned_folders
from pipeline.serving.worker import Bounds, Task, Worker


@dataclass(frozen=True)
class Limits:
    """What one server bears.

    bytes, files: of one upload. idle_seconds, upload_seconds: of an upload between two pieces, and in all. uploads: at once.
    waiting: translations not yet made. keep_seconds: how long a result stays. disk: bytes of all results; when they are more, new uploads
    are refused until older results go. translation: what one translation may take.
    """

    bytes: int = 512 * 2**20
    files: int = 2000
    idle_seconds: float = 30
    upload_seconds: float = 900
    uploads: int = 64
    waiting: int = 64
    keep_seconds: float = 3600
    disk: int = 20 * 2**30
    translation: Bounds = field(default_factory=Bounds)


class Busy(UserError):
    """The server cannot take this now; later it may."""


@dataclass
class Job:
    """One translation: its state for the page, and its files in `folder` (in/ the upload, out/ the result in the upload's format)."""

    id: str
    task: Task
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    done: int = 0
    slices: int = 0
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None
    ended: float = 0.0  # time.monotonic(), 0 before its end
    size: int = 0  # bytes on the disk
    pairs: dict[str, int] = field(default_factory=dict)  # the numbers of headers and voxels in files of their own, by their common name


class Jobs:
    """Runs translations one after the other (each uses all cores) in the worker's process, and keeps their results for a while."""

    def __init__(self, worker: Worker, models: dict[str, dict[str, Any]], folder: "WorkingFolder", limits: Limits) -> None:
        self.worker, self.models, self.limits = worker, models, limits
        self.working_folder, self.folder = folder, folder.path
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="translate")

    def new(self, name: str, to: str, contrast: str | None, with_uncertainty: bool = False, ct_values: str = "auto") -> Job:
        """An empty job for an upload whose first file is called `name`; its in/ is to be filled.

        Raises UserError for a direction without a model and for unknown `ct_values`, Busy when too many wait or too many results are kept.
        """
        if to not in self.models:
            raise UserError(f"to {to or 'nothing'}: this server translates to {' and '.join(self.models)}")
        values = parse_ct_values(ct_values, "ct_values")
        self.forget_old()
        self.working_folder.restore()
        with self._lock:
            if sum(job.state in ("waiting", "running") for job in self._jobs.values()) >= self.limits.waiting:
                raise Busy("too many translations are waiting; try again in a minute")
            if sum(job.size for job in self._jobs.values()) >= self.limits.disk:
                minutes = self.limits.keep_seconds / 60
                raise Busy(f"the results of the last {minutes:g} minutes fill this server's share of the disk; try again later")
            task = Task(self.folder / secrets.token_hex(12), name, to, contrast, with_uncertainty, values)
            job = Job(secrets.token_urlsafe(12), task)
            (task.folder / "in").mkdir(parents=True)
            self._jobs[job.id] = job
        return job

    def place(self, job: Job, number: int, name: str) -> Path:
        """Where file `number` of the upload goes: by number, with a known ending, since a name may be a patient's.

        A header and its voxels get the same number, so that they find each other.
        """
        endings = (*VOXELS, *(ending for format_ in FORMATS for ending in format_.ENDINGS))
        ending = next((ending for ending in sorted(endings, key=len, reverse=True) if name.lower().endswith(ending)), "")
        if ending in (*VOXELS, *HEADERS):
            number = job.pairs.setdefault(name[: -len(ending)], number)
        return job.task.folder / "in" / f"{number:05d}{ending}"

    def start(self, job: Job) -> "Future[None]":
        """Queue a job whose upload is complete."""
        return self._thread.submit(self._run, job)

    def get(self, number: str) -> Job | None:
        """The job of this id; None where there is none any more."""
        with self._lock:
            return self._jobs.get(number)

    def drop(self, job: Job) -> None:
        """Forget a job and its files."""
        with self._lock:
            self._jobs.pop(job.id, None)
        shutil.rmtree(job.task.folder, ignore_errors=True)

    def close(self) -> None:
        """End what runs and forget all."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.worker.close()
        for job in list(self._jobs.values()):
            self.drop(job)

    def forget_old(self) -> None:
        """Delete the results whose time is over."""
        with self._lock:
            old = [job for job in self._jobs.values() if job.ended and time.monotonic() - job.ended > self.limits.keep_seconds]
        for job in old:
            self.drop(job)

    def _run(self, job: Job) -> None:
        job.state = "running"

        def report(done: int, total: int) -> None:
            job.done, job.slices = job.done + done, total

        try:
            finished = self.worker.translate(job.task, report)
            self.models[job.task.to] = finished.model
            job.output, job.facts, job.state = finished.output, finished.facts, "done"
        except UserError as error:
            job.error, job.state = str(error), "failed"
            shutil.rmtree(job.task.folder / "in", ignore_errors=True)
        except Exception:
            job.error, job.state = "the translation failed by a defect of this program; its log says more", "failed"
            raise
        finally:
            job.size = sum(file.stat().st_size for file in job.task.folder.rglob("*") if file.is_file())
            job.ended = time.monotonic()


class WorkingFolder:
    """A folder for uploads and results, which only this user may look into, and the lock that says whose it is."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=paths.SERVING))
        self.lock = FileLock(self.path / "lock")
        self.lock.acquire()

    def restore(self) -> None:
        """Make it and its lock anew where a cleaner of old temporary files removed them. Raises OSError where that cannot be."""
        if not (self.path / "lock").exists():
            self.lock.release(force=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.lock.acquire()

    def remove(self) -> None:
        self.lock.release(force=True)
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def working_folder() -> Iterator[WorkingFolder]:
    """A folder that is removed at the end. What a server that was killed left behind is removed first."""
    for left in abandoned_folders(paths.SERVING):
        shutil.rmtree(left, ignore_errors=True)  # another server may be as fast
    folder = WorkingFolder()
    try:
        yield folder
    finally:
        folder.remove()


def models_to_serve(models: list[str]) -> Mapping[str, str | None]:
    """For each thing to make (ct, mr) the model in `models`, as `ctmr serve --model` takes them; None: the champion, else the box."""
    if not models:
        return {str(direction.target): None for direction in DIRECTIONS}
    if len(models) == 1 and (models[0] == paths.IN_THE_BOX or Path(models[0]).is_dir()):
        return {str(direction.target): models[0] for direction in DIRECTIONS}
    named = {}
    for model in models:
        direction = next((direction for direction in DIRECTIONS if model.startswith(direction.model_name)), None)
        if direction is None:
            names = " or ".join(direction.model_name for direction in DIRECTIONS)
            raise UserError(f"--model {model}: expected {names}, with @alias or /version, a folder, or box")
        named[str(direction.target)] = model
    return named
