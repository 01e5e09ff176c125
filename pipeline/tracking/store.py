"""Which MLflow store is in use, the project's experiment in it, and the address that shows its runs side by side.

`$MLFLOW_TRACKING_URI` names the store; without it, an SQLite file in the project's mlruns/ with the artifacts beside it.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import paths
from pipeline.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ctmr"
_SQLITE = "sqlite:///"


def tracking_uri() -> str:
    """Address of the MLflow store: `$MLFLOW_TRACKING_URI`, else SQLite in mlruns/."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{paths.home() / paths.MLRUNS / 'mlflow.db'}"


def is_server(uri: str) -> bool:
    """Whether an MLflow server stands behind `uri`, which then decides where artifacts go."""
    return uri.startswith(("http://", "https://"))


def database_file(uri: str) -> Path | None:
    """The SQLite file behind `uri`, None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def artifact_folder(uri: str) -> Path:
    """Where artifacts of a store without a server go: beside its SQLite file, else (a database elsewhere) in the project's mlruns/."""
    file = database_file(uri)
    return (file.absolute().parent if file else paths.home() / paths.MLRUNS) / "artifacts"


def client(uri: str) -> "MlflowClient":
    """A client for the store `uri`, whose tables are made where they are missing. MLflow's own functions use that store from now on."""
    import mlflow

    found = _client(uri)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return found


@lru_cache(maxsize=4)
def _client(uri: str) -> "MlflowClient":
    import logging

    import mlflow
    from filelock import FileLock

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # else every new store tells how it makes its tables
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    file = database_file(uri)
    if file is None:
        return mlflow.MlflowClient(uri, registry_uri=uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # two processes that make the tables at once would both fail
        return mlflow.MlflowClient(uri, registry_uri=uri)


def experiment_id(uri: str) -> str:
    """The id of the project's experiment in the store, which is made where it is missing.

    Raises UserError when the store was moved here from another folder and would put artifacts there.
    """
    from mlflow.exceptions import MlflowException

    known = client(uri)
    found = known.get_experiment_by_name(EXPERIMENT)
    if found is None:
        place = None if is_server(uri) else artifact_folder(uri).as_uri()
        try:
            return known.create_experiment(EXPERIMENT, place, {"mlflow.experimentKind": "custom_model_development"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        found = known.get_experiment_by_name(EXPERIMENT)
    if found is None:
        raise UserError(f"MLflow store {uri}: experiment {EXPERIMENT} can be neither made nor found; was it deleted? restore it in the UI")
    if database_file(uri) and found.artifact_location != artifact_folder(uri).as_uri():
        raise UserError(f"MLflow store {uri}: was made in another place ({found.artifact_location}); run ctmr doctor --fix")
    return str(found.experiment_id)


def comparison_address(experiment: str) -> str:
    """The part of the UI's address after host and port that opens run comparison: curves, images and scores of several runs.

    A fresh browser that is sent to the bare address lands on MLflow's pages for language models instead.
    """
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"


def run_address(experiment: str, run_id: str) -> str:
    """As comparison_address, of one run: its scores, parameters, data set, models."""
    return f"/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
