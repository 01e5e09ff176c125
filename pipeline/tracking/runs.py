"""One training = one MLflow run, which evaluation and registration write into as well.

Nothing is sent from the caller's thread: metrics are collected and go out in batches, images and files one after the other, from one
thread of the run's own. What cannot be sent (a server that is away) is said once and never ends a training.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.atomic import write_json
from pipeline.errors import UserError
from pipeline.tracking import facts, store
from pipeline.tracking.store import tracking_uri

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "attach", "tracking_uri", "write_run_json"]

METRICS_AT_ONCE = 1000  # MLflow's limits for one request
PARAMS_AT_ONCE = 100
LONGEST_VALUE = 6000
ORIGINAL_RUN = "original_run"


class Run:
    """A run in the store in use. Calls return at once; `finish` waits until everything is sent."""

    def __init__(self, run_id: str, name: str, experiment: str, uri: str) -> None:
        self.id = run_id
        self.name = name
        self.experiment = experiment
        self.uri = uri
        self._client = store.client(uri)
        self._waiting: list[Any] = []
        self._lock = threading.Lock()
        self._sender = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._last: Future[None] | None = None
        self._complained = False

    @classmethod
    def start(cls, of: params.Params, *, resume: str | None = None, extra_tags: Mapping[str, str] | None = None) -> "Run":
        """A new run for a training with the parameters `of`, or the run `resume` once more where the store knows it.

        Logs parameters as in params.yaml, tags (commit, dirty tree, DVC lock, preset, device) and the data set with its digest.
        """
        from mlflow.entities import Dataset, DatasetInput, Param

        uri = tracking_uri()
        with _store_errors(uri):
            if resume and (known := _known(uri, resume)) is not None:
                known._client.update_run(known.id, status="RUNNING")
                return known
            knobs = facts.flatten(of)
            name = facts.run_name(knobs, facts.preset_of(knobs), datetime.now())
            tags = facts.tags(knobs) | ({ORIGINAL_RUN: resume} if resume else {}) | dict(extra_tags or {})
            experiment = store.experiment_id(uri)
            created = store.client(uri).create_run(experiment, run_name=name, tags=tags)
            run = cls(created.info.run_id, name, experiment, uri)
            logged = [Param(key, str(value)[:LONGEST_VALUE]) for key, value in knobs.items()]
            for first in range(0, len(logged), PARAMS_AT_ONCE):
                run._client.log_batch(run.id, params=logged[first : first + PARAMS_AT_ONCE])
            data = facts.data_set()
            if data["digest"]:
                entry = Dataset(data["name"], data["digest"], "local", data["source"], profile=data["profile"])
                run._client.log_inputs(run.id, [DatasetInput(entry)])
        return run

    @property
    def address(self) -> str:
        """The UI's address after host and port: comparison of all runs, with curves, images and scores."""
        return store.comparison_address(self.experiment)

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Curves: `values` at `step` (images seen). Sent in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._lock:
            self._waiting += [Metric(key, float(value), now, step) for key, value in values.items()]
            if self._last is None or self._last.done() or len(self._waiting) >= METRICS_AT_ONCE:
                self._last = self._sender.submit(self._send_metrics)

    def log_image(self, array: NDArray[np.uint8], key: str, step: int = 0) -> None:
        """A picture, uint8 (H, W) or (H, W, 3), in the UI's image grid under `key`, which may not hold a slash."""
        picture = np.array(array)
        self._later(lambda: self._client.log_image(self.id, picture, key=key, step=step))

    def log_folder(self, path: Path, artifact_path: str | None = None) -> None:
        """Every file below `path` as an artifact, read when this is called; waits until they are copied."""
        self._later(lambda: self._client.log_artifacts(self.id, str(path), artifact_path)).result()

    def log_file(self, path: Path, artifact_path: str | None = None) -> None:
        """One file as an artifact; waits until it is copied."""
        self._later(lambda: self._client.log_artifact(self.id, str(path), artifact_path)).result()

    def log_table(self, table: "pd.DataFrame", file: str) -> None:
        """A table as the artifact `file` (.csv), which the UI shows as a table; written anew each time."""

        def send() -> None:
            with TemporaryDirectory() as folder:
                place = Path(folder) / Path(file).name
                table.to_csv(place, index=False)
                self._client.log_artifact(self.id, str(place), str(Path(file).parent) if "/" in file else None)

        self._later(send)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Facts about the run that one filters by."""
        for key, value in tags.items():
            self._later(lambda key=key, value=value: self._client.set_tag(self.id, key, value))  # type: ignore[misc]

    def flush(self) -> None:
        """Wait until everything so far is sent."""
        self._sender.submit(self._send_metrics).result()

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Send what is left and close the run."""
        self.flush()
        self._later(lambda: self._client.set_terminated(self.id, status)).result()
        self._sender.shutdown()

    def _send_metrics(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        for first in range(0, len(batch), METRICS_AT_ONCE):
            try:
                self._client.log_batch(self.id, metrics=batch[first : first + METRICS_AT_ONCE])
            except Exception as error:  # whatever the store raises, training goes on and the values wait for the next batch
                with self._lock:
                    self._waiting = batch[first:] + self._waiting
                self._complain(error)
                return

    def _later(self, send: Callable[[], object]) -> Future[None]:
        def guarded() -> None:
            try:
                send()
            except Exception as error:  # see the module's docstring
                self._complain(error)

        return self._sender.submit(guarded)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            first_line = next(iter(str(error).splitlines()), "")
            print(f"warning: MLflow at {self.uri} does not take what run {self.id} logs ({first_line}); going on without", file=sys.stderr)


def attach(run_json: Path = paths.RUN_JSON) -> Run:
    """The run of the training in `run_json`; where the store in use does not know it (another machine), a new run that names the original.

    Raises UserError when there is no `run_json` or the store cannot be reached.
    """
    try:
        written = json.loads(run_json.read_text(encoding="utf-8"))
        run_id = str(written["run_id"])
    except FileNotFoundError:
        raise UserError(f"{run_json}: not found; run dvc repro train first") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{run_json}: damaged; restore it with dvc checkout {paths.MODELS}") from None
    uri = tracking_uri()
    with _store_errors(uri):
        client = store.client(uri)
        if (known := _known(uri, run_id)) is not None:
            return known
        found = client.search_runs([store.experiment_id(uri)], f"tags.{ORIGINAL_RUN} = '{run_id}'", max_results=1)
        if found:
            return Run(found[0].info.run_id, found[0].info.run_name, found[0].info.experiment_id, uri)
        run = Run.start(params.load(), extra_tags={ORIGINAL_RUN: run_id, "original_name": str(written.get("name", ""))})
        client.update_run(run.id, name=f"{written.get('name', run.name)} (from another machine)")
        _send_curves(run)
        return run


def _send_curves(run: Run) -> None:
    """The training's curves, which another store, or none, was given at the time."""
    import pandas as pd

    file = paths.TRAIN_REPORT / "curves.csv"
    for line in pd.read_csv(file).to_dict("records") if file.is_file() else []:
        values = {str(name): float(value) for name, value in line.items() if name != "images" and value == value}
        run.log_metrics(values, int(line["images"]))


def write_run_json(run: Run, path: Path = paths.RUN_JSON) -> None:
    """Which MLflow run the models came from; the one output of the graph that differs between repetitions."""
    written = {"run_id": run.id, "name": run.name, "experiment": store.EXPERIMENT, "experiment_id": run.experiment}
    write_json(path, {**written, "data_digest": facts.data_digest()})


def _known(uri: str, run_id: str) -> Run | None:
    from mlflow.exceptions import MlflowException

    try:
        found = store.client(uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if found.info.lifecycle_stage == "deleted":
        return None
    return Run(run_id, found.info.run_name or run_id, found.info.experiment_id, uri)


@contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    """One line for the user where the store cannot be reached or refuses."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise UserError(f"MLflow store {uri}: cannot be used ({first}); start it, or set MLFLOW_TRACKING_URI to another") from None
