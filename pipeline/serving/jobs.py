"""Translations asked for by many at once: one after the other, each within limits, results on the disk until they are old."""

import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.formats.table import named, read_volume
from pipeline.formats.volume import Volume
from pipeline.imaging import intensity
from pipeline.serving.translator import Translation, Translator

GREY_LEVELS = 1000  # grey values 0..1 as the page gets them


@dataclass(frozen=True)
class Limits:
    """What one server bears: bytes and files of an upload, slices and pixels of a volume, seconds of a translation, requests waiting,
    results kept, and for how many seconds."""

    bytes: int = 512 * 2**20
    files: int = 2000
    slices: int = 1000
    pixels: int = 200_000_000
    seconds: float = 600
    waiting: int = 64
    kept: int = 64
    kept_seconds: float = 3600


class Busy(UserError):
    """Too many requests are waiting."""


@dataclass
class Job:
    """One translation: its state for the page, and its files in `folder` (in/ the upload, out/ the result in the upload's format)."""

    id: str
    folder: Path
    to: str
    contrast: str | None
    with_doubt: bool = False
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    done: int = 0
    slices: int = 0
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None
    began: float = field(default_factory=time.monotonic)
    future: "Future[None] | None" = None


class Jobs:
    """Runs translations one after the other (each uses all cores) and keeps their results for a while."""

    def __init__(self, translators: Mapping[str, Translator], folder: Path, limits: Limits) -> None:
        self.translators = translators
        self.folder = folder
        self.limits = limits
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="translate")

    def new(self, to: str, contrast: str | None, with_doubt: bool = False) -> Job:
        """An empty job, whose in/ is to be filled. Raises UserError for a direction without a model, Busy when too many wait."""
        if to not in self.translators:
            raise UserError(f"to {to}: this server translates to {' and '.join(self.translators)}")
        self.forget_old()
        with self._lock:
            if sum(job.state in ("waiting", "running") for job in self._jobs.values()) >= self.limits.waiting:
                raise Busy("too many translations are waiting; try again in a minute")
            job = Job(secrets.token_urlsafe(12), self.folder / secrets.token_hex(12), to, contrast, with_doubt)
            (job.folder / "in").mkdir(parents=True)
            self._jobs[job.id] = job
        return job

    def start(self, job: Job) -> "Future[None]":
        """Queue a job whose upload is complete."""
        job.future = self._worker.submit(self._run, job)
        return job.future

    def get(self, number: str) -> Job | None:
        with self._lock:
            return self._jobs.get(number)

    def drop(self, job: Job) -> None:
        """Forget a job and its files."""
        with self._lock:
            self._jobs.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        for job in list(self._jobs.values()):
            self.drop(job)

    def forget_old(self) -> None:
        """Delete results that are older, or more, than the limits allow."""
        with self._lock:
            gone = self._old()
            for job in gone:
                self._jobs.pop(job.id)
        for job in gone:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _old(self) -> list[Job]:
        ended = [job for job in self._jobs.values() if job.state in ("done", "failed")]
        too_many = max(0, len(self._jobs) - self.limits.kept)
        old = [job for job in ended if time.monotonic() - job.began > self.limits.kept_seconds]
        return list({one.id: one for one in (*old, *ended[:too_many])}.values())

    def _run(self, job: Job) -> None:
        job.state = "running"
        try:
            self._translate(job)
            job.state = "done"
        except UserError as error:
            job.error = " ".join(str(error).replace(f"{job.folder}/in/", "").replace(f"{job.folder}/in", "the upload").split())
            job.state = "failed"
        except Exception:  # goes on to the log; the page must not wait for ever for a job that has ended
            job.error = "the translation failed by a defect of this program; its log says more"
            job.state = "failed"
            raise

    def _translate(self, job: Job) -> None:
        translator = self.translators[job.to]
        deadline = time.monotonic() + self.limits.seconds

        def progress(step: int, total: int) -> None:
            job.done, job.slices = job.done + step, total
            if time.monotonic() > deadline:
                raise UserError(f"the translation took longer than {self.limits.seconds:g} s; use ctmr translate for a volume this large")

        files = sorted((job.folder / "in").iterdir())
        source = files[0] if len(files) == 1 else job.folder / "in"
        volume = read_volume(source, translator.source)
        height, width = volume.slices[0].pixels.shape
        if len(volume.slices) > self.limits.slices or len(volume.slices) * height * width > self.limits.pixels:
            raise UserError(f"{len(volume.slices)} slices of {width} × {height} pixels are too many here; use ctmr translate")
        began = time.monotonic()
        translation = translator.translate_volume(volume, job.contrast, progress, job.with_doubt)
        job.output = _packed(translator.write(volume, translation, source, job.folder / "out" / _name(volume, source), job.contrast))
        before, kind = _shown(volume, translator.source)
        np.save(job.folder / "before.npy", before)
        np.save(job.folder / "after.npy", _levels(np.stack(translation.images), translation.unit))
        if job.with_doubt:
            np.save(job.folder / "doubt.npy", _levels(np.stack(translation.doubt), "grey"))
        shutil.rmtree(job.folder / "in")
        spacing = volume.slices[0].spacing
        job.facts = {
            "slices": len(volume.slices),
            "height": height,
            "width": width,
            "aspect": spacing[0] / spacing[1] if spacing else 1,
            "before": kind,
            "after": translation.unit,
            "doubt": job.with_doubt,
            "without_head": len(translation.without_head),
            "middle": _middle(translation),
            "warnings": [*volume.warnings, *translation.warnings],
            "model": str(translator.label),
            "source": translator.source,
            "target": translator.target,
            "download": job.output.name,
            "seconds": round(time.monotonic() - began, 1),
        }


def _name(volume: Volume, source: Path) -> str:
    """The result's name: the upload's, marked as synthetic; a folder for a series."""
    if volume.format == "DICOM":
        return "synthetic.dcm" if len(volume.slices) == 1 and not source.is_dir() else "synthetic"
    endings = named(volume.format).ENDINGS
    ending = next((ending for ending in endings if source.name.lower().endswith(ending)), endings[0])
    return f"{source.name[: -len(ending)] if source.name.lower().endswith(ending) else source.name}-synthetic{ending}"


def _packed(output: Path) -> Path:
    """A folder as a zip without times, so that the same result is the same file."""
    if output.is_file():
        return output
    archive = output.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(output.iterdir()):
            packed.writestr(zipfile.ZipInfo(f"{output.name}/{file.name}"), file.read_bytes())
    shutil.rmtree(output)
    return archive


def _shown(volume: Volume, modality: str) -> tuple[NDArray[np.int16], str]:
    """The source for the page: Hounsfield units where it has them, else grey values as a person would display them."""
    unit = volume.slices[0].unit
    images = [one.pixels if unit == "hu" else intensity.view(one.pixels, one.unit, modality) for one in volume.slices]
    return _levels(np.stack(images), unit), unit


def _levels(images: NDArray[np.float32], unit: str) -> NDArray[np.int16]:
    values: Sequence[Any] | NDArray[np.float32] = images if unit == "hu" else images * GREY_LEVELS
    return np.rint(np.clip(values, -32768, 32767)).astype("<i2")


def _middle(translation: Translation) -> int:
    """The slice to show first: the middle one of those with a head."""
    empty = set(translation.without_head)
    with_head = [number for number in range(len(translation.images)) if number not in empty]
    return with_head[len(with_head) // 2]
