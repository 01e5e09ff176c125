"""One training = one MLflow run, which evaluation and registration write into as well.

A training never ends because of the store. Metrics and images go through MLflow's own queues (`synchronous=False`). MLflow drops what it
could not send in time; `finish` then fills the gaps from reports/train. Where the store is away when the run should begin, all waits here.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import numpy as np
import psutil
from numpy.typing import NDArray

from pipeline import paths
from pipeline.atomic import write_json
from pipeline.errors import UserError
from pipeline.params import Params, load
from pipeline.tracking import facts, store

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

TOGETHER = 1.0  # seconds of metrics that make one request
AGAIN = 60.0  # seconds between two tries to begin a run in a store that is away
LONGEST_VALUE = 6000  # MLflow's limit for a parameter
ORIGINAL_RUN = "original_run"
PROCESS = "process"  # tag: who writes the run, see process_name


@dataclass
class Run:
    """A run in the store in use. Logging returns at once; `finish` waits until everything is sent.

    `begin_with`: parameters and the id to resume of a run that the store could not begin yet; its `id` is made up until then.
    """

    id: str
    name: str
    experiment: str
    uri: str
    begin_with: tuple[Params, str | None] | None = None
    _metrics: "list[Metric]" = field(default_factory=list)
    _images: list[tuple[NDArray[np.uint8], str, int]] = field(default_factory=list)
    _tags: dict[str, str] = field(default_factory=dict)
    _operations: list[Any] = field(default_factory=list)
    _next: float = 0.0  # time.monotonic() before which nothing is sent

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Curves: `values` at `step` (images seen)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [Metric(key, float(value), now, step) for key, value in values.items()]
        self._send()

    def log_image(self, array: NDArray[np.uint8], key: str, step: int = 0) -> None:
        """A picture, uint8 (H, W) or (H, W, 3), in the UI's image grid under `key`."""
        self._images.append((np.array(array), key, step))
        self._send()

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Facts about the run that one filters by."""
        self._tags |= tags
        self._send()

    def log_files(self, path: Path, artifact_path: str | None = None) -> None:
        """A file, or every one below a folder, as artifacts; waits until they are copied.

        Said, and left out, where the store does not take them.
        """
        self._send(now=True)
        if not self.begin_with:
            self._attempt("log_artifacts" if path.is_dir() else "log_artifact", str(path), artifact_path)

    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """Send what is left and close the run. Curves that cannot be sent stay in reports/train, from where evaluation sends them."""
        self._send(now=True)
        if self.begin_with:
            print("warning: MLflow was away to the end; reports/train keeps the curves, the evaluate stage sends them", file=sys.stderr)
            return
        operations, self._operations = self._operations, []
        if not all([_succeeded(operation) for operation in operations]) and status == "FINISHED":
            try:
                send_curves(self)
            except UserError as error:
                print(f"warning: {error}. reports/train keeps the curves, the evaluate stage sends them", file=sys.stderr, flush=True)
        self._attempt("set_terminated", status)

    def _send(self, *, now: bool = False) -> None:
        """Hand what waits to MLflow's queues, at most every TOGETHER seconds; where the run has not begun, try that every AGAIN seconds."""
        if time.monotonic() < self._next and not now:
            return
        self._next = time.monotonic() + (AGAIN if self.begin_with else TOGETHER)
        if self.begin_with and not self._begin(*self.begin_with):
            return
        from mlflow.entities import RunTag

        client = store.client(self.uri)
        if self._metrics or self._tags:
            tags = [RunTag(key, value) for key, value in self._tags.items()]
            self._operations.append(client.log_batch(self.id, self._metrics, tags=tags, synchronous=False))
        for array, key, step in self._images:
            client.log_image(self.id, array, key=key, step=step, synchronous=False)
        self._metrics, self._images, self._tags = [], [], {}

    def _begin(self, params: Params, resume: str | None) -> bool:
        try:
            begun = begin(params, resume)
        except UserError:
            return False
        self.id, self.name, self.experiment, self.begin_with = begun.id, begun.name, begun.experiment, None
        print("MLflow answers again; everything so far was sent", file=sys.stderr, flush=True)
        return True

    def _attempt(self, method: str, *arguments: Any) -> None:
        """Call a method of MLflow's client on this run; what goes wrong is said and ends nothing."""
        try:
            with store.errors(self.uri):
                getattr(store.client(self.uri), method)(self.id, *arguments)
        except (UserError, OSError) as error:
            print(f"warning: run {self.id}: {method} failed: {error}", file=sys.stderr, flush=True)


def start_run(params: Params, resume: str | None = None) -> Run:
    """The run of a training: a new one, or `resume` once more where the store knows it.

    Where the store is away: a loud word, and a run that begins as soon as the store answers. A training is worth more than its curves.
    """
    if why := facts.why_no_commit():
        print(f"warning: runs are recorded without a commit ({why}): nobody can tell which code made them", file=sys.stderr, flush=True)
    try:
        end_stale_runs()
        return begin(params, resume)
    except UserError as error:
        print(f"warning: {error}. Training goes on; curves wait and are sent when it answers", file=sys.stderr, flush=True)
    return Run(resume or f"unsent-{uuid4().hex}", "", "", store.tracking_uri(), (params, resume), _next=time.monotonic() + AGAIN)


def begin(params: Params, resume: str | None = None, extra_tags: Mapping[str, str] | None = None) -> Run:
    """As `start_run`, but raises UserError where the store cannot be used.

    Logs parameters as in params.yaml, tags (commit, dirty tree, DVC lock, preset, device) and the data set with its digest.
    """
    from mlflow.entities import Dataset, DatasetInput

    uri = store.tracking_uri()
    with store.errors(uri):
        client = store.client(uri)
        if resume and (known := _known(uri, resume)) is not None:
            client.update_run(known.id, status="RUNNING")
            client.set_tag(known.id, PROCESS, process_name())
            return known
        knobs = facts.flatten(params)
        name = facts.run_name(knobs, facts.preset_of(knobs), datetime.now())
        tags = facts.tags(knobs) | ({ORIGINAL_RUN: resume} if resume else {}) | dict(extra_tags or {})
        run = create(uri, name, tags, knobs)
        data = facts.data_set()
        if data["digest"]:
            entry = Dataset(data["name"], data["digest"], "local", data["source"], profile=data["profile"])
            client.log_inputs(run.id, [DatasetInput(entry)])
    return run


def create(uri: str, name: str, tags: Mapping[str, str], knobs: Mapping[str, Any]) -> Run:
    """A new run of the project's experiment, written by this process, with these tags and the `knobs` as parameters."""
    from mlflow.entities import Param

    client, experiment = store.client(uri), store.experiment_id(uri)
    run_id = client.create_run(experiment, run_name=name, tags={**tags, PROCESS: process_name()}).info.run_id
    client.log_batch(run_id, params=[Param(key, str(value)[:LONGEST_VALUE]) for key, value in knobs.items()])
    return Run(run_id, name, experiment, uri)


def attach(run_json: Path = paths.RUN_JSON) -> Run:
    """The run of the training in `run_json`; where the store in use does not know it (another machine), a new run that names the original.

    Raises UserError when there is no `run_json` or the store cannot be used.
    """
    try:
        written = json.loads(run_json.read_text(encoding="utf-8"))
        run_id = str(written["run_id"])
    except FileNotFoundError:
        raise UserError(f"{run_json}: not found; run dvc repro train first") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{run_json}: damaged; restore it with dvc checkout {paths.MODELS}") from None
    uri = store.tracking_uri()
    with store.errors(uri):
        client = store.client(uri)
        if (known := _known(uri, run_id)) is not None:
            return known
        found = client.search_runs([store.experiment_id(uri)], f"tags.{ORIGINAL_RUN} = '{run_id}'", max_results=1)
        if found:
            return Run(found[0].info.run_id, found[0].info.run_name, found[0].info.experiment_id, uri)
        run = begin(load(), extra_tags={ORIGINAL_RUN: run_id, "original_name": str(written.get("name", ""))})
        client.update_run(run.id, name=f"{written.get('name', run.name)} (from another machine)")
    send_curves(run)
    return run


def send_curves(run: Run) -> None:
    """Send what reports/train/curves.csv holds and the run lacks: another store, or none, was given it at the time."""
    import pandas as pd

    file = paths.TRAIN_REPORT / "curves.csv"
    if not file.is_file():
        return
    curves = pd.read_csv(file).set_index("images")
    with store.errors(run.uri):
        from mlflow.entities import Metric

        client = store.client(run.uri)
        now = int(time.time() * 1000)
        for name, curve in curves.items():
            known = {point.step for point in client.get_metric_history(run.id, str(name))}
            values = {int(step): float(value) for step, value in zip(curve.index, curve, strict=True) if value == value}
            missing = {step: value for step, value in values.items() if step not in known}
            client.log_batch(run.id, [Metric(str(name), value, now, step) for step, value in missing.items()])


def write_run_json(run: Run, path: Path = paths.RUN_JSON) -> None:
    """Which MLflow run the models came from; the one output of the graph that differs between repetitions."""
    written = {"run_id": run.id, "name": run.name, "experiment": store.EXPERIMENT, "experiment_id": run.experiment}
    write_json(path, {**written, "data_digest": facts.data_digest()})


def find_stale_runs() -> "list[MlflowRun]":
    """Every run that is RUNNING by a process of this machine that is gone. Raises UserError when the store cannot be used."""
    uri = store.tracking_uri()
    with store.errors(uri):
        running = store.client(uri).search_runs([store.experiment_id(uri)], "attributes.status = 'RUNNING'")
    return [run for run in running if _is_gone(run.data.tags.get(PROCESS, ""))]


def end_stale_runs() -> None:
    """End them as KILLED. Raises UserError."""
    uri = store.tracking_uri()
    for run in find_stale_runs():
        with store.errors(uri):
            store.client(uri).set_terminated(run.info.run_id, "KILLED")


def process_name() -> str:
    """This process, told from every other on any machine: host, number, and when it began."""
    process = psutil.Process()
    return f"{platform.node()} {process.pid} {process.create_time():.2f}"


def _is_gone(process: str) -> bool:
    """Whether `process`, as `process_name` gives it, is of this machine and has ended; a zombie has."""
    host, _, rest = process.partition(" ")
    pid, _, began = rest.partition(" ")
    if host != platform.node() or not pid.isdigit():
        return False
    try:
        known = psutil.Process(int(pid))
        return abs(known.create_time() - float(began)) > 1 or known.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _succeeded(operation: Any) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        operation.wait()
    except MlflowException:  # raised for whatever went wrong in MLflow's queue
        return False
    return True


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
