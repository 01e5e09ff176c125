"""The process that reads and translates uploads within limits of memory and time. A file that breaks them ends it; the server goes on."""

import logging
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.errors import UserError, describe_os_error
from pipeline.formats.slices import Limits
from pipeline.formats.table import check_target
from pipeline.formats.values import CtValues
from pipeline.processes import die_with_parent
from pipeline.serving.model_choice import choose_translator, reload_if_changed
from pipeline.serving.page_pixels import middle_slice, pack, result_name, source_levels, to_levels
from pipeline.serving.translator import Translator

STARTS = 2  # for one task; a process that ends at once again has a reason that another start does not mend
START_SECONDS = 300  # reading networks, and asking the registry for them, on a busy machine


@dataclass(frozen=True)
class Bounds:
    """What one translation may take: bytes of memory beyond the networks', slices and pixels of a volume, seconds in all."""

    memory: int = 3 * 2**30
    slices: int = 1000
    pixels: int = 200_000_000
    seconds: float = 600


@dataclass(frozen=True)
class Task:
    """A translation: `folder`/in holds the upload, whose first file had the name `name`; the result goes to `folder`."""

    folder: Path
    name: str
    to: str
    contrast: str | None
    with_uncertainty: bool
    ct_values: CtValues = "auto"


@dataclass(frozen=True)
class Taken:
    """The process has the task: from now on it is the task that ends it."""


@dataclass(frozen=True)
class Finished:
    """The result, the facts that the page shows, and the model that made it."""

    output: Path
    facts: dict[str, Any]
    model: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """Why a translation could not be made: one line for the user. `last`: the process ends, since memory ran out in it."""

    reason: str
    last: bool = False


class Worker:
    """Starts the process, hands it one task after the other, and ends it when a task takes too long."""

    def __init__(self, models: Mapping[str, str | None], bounds: Bounds) -> None:
        """`models`: for each thing to make (ct, mr) the model as `choose_translator` takes it, or None for the champion, else the box."""
        self.models, self.bounds = models, bounds
        self.closed = False
        self.process: Any = None
        self.connection: Connection[Any, Any] | None = None

    def start(self) -> dict[str, dict[str, Any]]:
        """Start the process and give what describes its models. Raises UserError when a model cannot be loaded."""
        context = get_context("spawn")
        self.connection, end = context.Pipe()
        self.process = context.Process(target=_work, args=(end, self.models, self.bounds), name="ctmr-translate", daemon=True)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))  # the process never sees them: those of
        self.process.start()  # a terminal reach the server as well, which ends the process
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        end.close()
        answer = self._receive(time.monotonic() + START_SECONDS)
        if isinstance(answer, dict):
            return answer
        self.stop()
        raise UserError(answer.reason if isinstance(answer, Refused) else "the translating process did not start; try again")

    def translate(self, task: Task, report: Callable[[int, int], None]) -> Finished:
        """Do `task`; `report` gets slices done since its last call, and slices in all.

        Raises UserError for what the user can mend and for broken limits.
        """
        self._hand_over(task)
        deadline = time.monotonic() + self.bounds.seconds
        while True:
            answer = self._receive(deadline)
            if isinstance(answer, Finished):
                return answer
            if isinstance(answer, Refused):
                if answer.last:
                    self.stop()
                raise UserError(answer.reason)
            if answer is None:
                late = time.monotonic() >= deadline
                self.stop()
                limit = f"{self.bounds.seconds:g} s" if late else f"{self.bounds.memory / 2**30:g} GiB of memory"
                raise UserError(f"the upload took more than {limit}; use ctmr translate for a volume this large")
            report(*answer)

    def close(self) -> None:
        """End the process for good."""
        self.closed = True
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
        if self.connection is not None:
            self.connection.close()
        self.process = self.connection = None

    def _hand_over(self, task: Task) -> None:
        """Give the process `task`. One that has ended by itself, before it took it, is started anew. Raises UserError."""
        for _ in range(STARTS):
            if self.closed:
                break
            if self.process is None or not self.process.is_alive():
                self.stop()
                self.start()
            assert self.connection is not None
            with suppress(OSError):  # it ended just now
                self.connection.send(task)
            if isinstance(self._receive(time.monotonic() + START_SECONDS), Taken):
                return
            self.stop()
        raise UserError("the translating process ended before it took the upload; try again", retryable=True)

    def _receive(self, deadline: float) -> Any:
        """What the process says next; None when it ended or the deadline passed."""
        connection = self.connection  # which `stop` may close meanwhile
        try:
            if connection is not None and connection.poll(max(0.0, deadline - time.monotonic())):
                return connection.recv()
        except (EOFError, OSError):
            return None
        return None


def _work(connection: "Connection[Any, Any]", models: Mapping[str, str | None], bounds: Bounds) -> None:
    """What the process does."""
    die_with_parent()
    _silence_libraries()
    try:
        translators = {to: choose_translator(model, to) for to, model in models.items()}
    except UserError as error:
        connection.send(Refused(str(error)))
        return
    most, hard = psutil.Process().memory_info().vms + bounds.memory, resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    connection.send({to: describe_model(translator) for to, translator in translators.items()})
    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(Taken())
        answer = _answer(task, translators, models, bounds, lambda done, total: connection.send((done, total)))
        connection.send(answer)
        if isinstance(answer, Refused) and answer.last:
            return


def _answer(
    task: Task,
    translators: dict[str, Translator],
    models: Mapping[str, str | None],
    bounds: Bounds,
    report: Callable[[int, int], None],
) -> Finished | Refused:
    try:
        translators[task.to], notes = reload_if_changed(translators[task.to], models[task.to], task.to)
        return _translate(task, translators[task.to], notes, bounds, report)
    except UserError as error:
        return Refused(_without_place(str(error), task))
    except OSError as error:
        line = describe_os_error(error)
        return Refused(_without_place(line, task)) if line else _report_defect(error)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):  # SimpleITK has no class of its own for it
            return Refused(f"the upload took more than {bounds.memory / 2**30:g} GiB of memory; use ctmr translate", last=True)
        return _report_defect(error)
    except Exception as error:
        return _report_defect(error)


def _report_defect(error: Exception) -> Refused:
    logging.getLogger("ctmr.serve").error("%s", describe_defect(error))
    return Refused("the translation failed by a defect of this program; its log says where")


def describe_defect(error: Exception) -> str:
    """Where a defect is, without its message, which may quote a header."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames[-6:]))
    return f"defect: {type(error).__name__} in {places}"


def _translate(task: Task, translator: Translator, notes: list[str], bounds: Bounds, report: Callable[[int, int], None]) -> Finished:
    files = sorted((task.folder / "in").iterdir())
    source = files[0] if len(files) == 1 else task.folder / "in"
    volume = translator.read(source, task.ct_values, Limits(voxels=bounds.pixels))
    if len(volume.slices) > bounds.slices:
        raise UserError(f"{len(volume.slices)} slices; at most {bounds.slices} are taken here, use ctmr translate")
    began = time.monotonic()
    target = task.folder / "out" / result_name(volume, source, task.name)
    check_target(volume, source, target)
    view, translation = translator.translate_volume(volume, task.contrast, report, task.with_uncertainty)
    output = pack(translator.write(view, translation, source, target, task.contrast))
    before, kind = source_levels(view.volume, translator.source)
    np.save(task.folder / "before.npy", before)
    np.save(task.folder / "after.npy", to_levels(np.stack(translation.images), translation.unit))
    if task.with_uncertainty:
        np.save(task.folder / "uncertainty.npy", to_levels(np.stack(translation.uncertainty), "grey"))
    shutil.rmtree(task.folder / "in")
    spacing = view.volume.slices[0].spacing
    facts = {
        "slices": len(translation.images),
        "height": translation.images[0].shape[0],
        "width": translation.images[0].shape[1],
        "aspect": spacing[0] / spacing[1] if spacing else 1,
        "before": kind,
        "after": translation.unit,
        "uncertainty": task.with_uncertainty,
        "without_head": len(translation.without_head),
        "middle": middle_slice(translation),
        "warnings": [*notes, *volume.warnings, *translation.warnings],
        "model": str(translator.label),
        "source": str(translator.source),
        "target": str(translator.target),
        "download": output.name,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Finished(output, facts, describe_model(translator))


def describe_model(translator: Translator) -> dict[str, Any]:
    """What the page shows of a model."""
    label, window = translator.label, translator.preprocess.ct_window
    return {
        "to": str(translator.target),
        "name": f"{label.name} in the box" if label.in_the_box else label.name,
        "version": label.version,
        "weights": label.digest[:12],
        "label": str(label),
        "scores": label.scores,
        "pixels": translator.preprocess.pixels,
        "contrasts": translator.conditional,
        "window": [window.level, window.width],
    }


def _silence_libraries() -> None:
    """Keep the warnings of the readers' libraries out of the log: they quote what a header says of a patient."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "nibabel.global", "tifffile", "PIL"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _without_place(message: str, task: Task) -> str:
    """`message` with the upload's own name for the place where it lies on this server."""
    files = sorted((task.folder / "in").glob("*")) if (task.folder / "in").is_dir() else []
    if len(files) == 1:
        message = message.replace(str(files[0]), task.name)
    return " ".join(message.replace(f"{task.folder}/in/", "").replace(f"{task.folder}/in", "the upload").split())
