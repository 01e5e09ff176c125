"""A store that is away when training starts: what there is to send waits in memory, and goes there once the store answers."""

import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.errors import UserError
from pipeline.tracking.runs import Run

AGAIN = 60.0  # seconds between two tries to reach the store


class LateRun(Run):
    """Takes what a Run takes while none can be had; from the moment that one can be had, it passes everything on."""

    def __init__(self, of: params.Params, resume: str | None) -> None:
        self.id = resume or f"unsent-{uuid.uuid4().hex}"
        self.name, self.experiment = self.id, ""
        self._of, self._resume = of, resume
        self._calls: list[Callable[[Run], object]] = []
        self._run: Run | None = None
        self._tried = time.monotonic()
        self._guard = threading.Lock()
        self._trying: threading.Thread | None = None

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        kept = dict(values)
        self._pass(lambda run: run.log_metrics(kept, step))

    def log_image(self, array: NDArray[np.uint8], key: str, step: int = 0) -> None:
        picture = np.array(array)
        self._pass(lambda run: run.log_image(picture, key, step))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        kept = dict(tags)
        self._pass(lambda run: run.set_tags(kept))

    def log_folder(self, path: Path, artifact_path: str | None = None) -> None:
        """Sent only if the store answers by now: the files lie in the outputs of the graph as well."""
        self._try()
        if self._run:
            self._run.log_folder(path, artifact_path)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """A last try; what cannot be sent is said, and evaluation sends the curves from reports/train."""
        self._try()
        if self._run:
            self._run.finish(status)
        else:
            print("warning: MLflow was away to the end; reports/train keeps the curves, the evaluate stage sends them", file=sys.stderr)

    def _pass(self, call: Callable[[Run], object]) -> None:
        with self._guard:
            if self._run:
                call(self._run)
                return
            self._calls.append(call)
        if time.monotonic() - self._tried >= AGAIN and not (self._trying and self._trying.is_alive()):
            self._tried = time.monotonic()
            self._trying = threading.Thread(target=self._try, daemon=True)
            self._trying.start()

    def _try(self) -> None:
        if self._run:
            return
        try:
            run = Run.start(self._of, resume=self._resume)
        except UserError:
            return
        with self._guard:
            for call in self._calls:
                call(run)
            self._calls.clear()
            self._run, self.id, self.name, self.experiment = run, run.id, run.name, run.experiment
        print("MLflow answers again; everything so far was sent", file=sys.stderr, flush=True)


def start_run(of: params.Params, resume: str | None) -> Run:
    """The run of a training; where the store is away, a loud word and a LateRun, since training is worth more than its curves."""
    try:
        return Run.start(of, resume=resume)
    except UserError as error:
        print(f"warning: {error}. Training goes on; curves wait and are sent when it answers", file=sys.stderr, flush=True)
        return LateRun(of, resume)
