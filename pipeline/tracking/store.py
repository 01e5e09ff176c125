"""Which MLflow store is in use, the project's experiment in it, and the address that shows its runs side by side.

`$MLFLOW_TRACKING_URI` names the store; without it, an SQLite file in the project's mlruns/ with the artifacts beside it.
"""

import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from pipeline import paths
from pipeline.atomic import new_file
from pipeline.errors import UserError, describe_missing

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ctmr"
PATIENCE = 5.0  # seconds until a server counts as away, or a database as locked by another program
_SQLITE = "sqlite:///"
_SQLITE_ENCODED = "sqlite+pysqlite:///file:"  # with the driver named, MLflow does not take it for a path and make its folders
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


class Damaged(UserError):
    """The database of a local store is no whole SQLite file."""


class OtherSchema(UserError):
    """The store was made by another version of MLflow."""


def tracking_uri() -> str:
    """Address of the MLflow store: `$MLFLOW_TRACKING_URI`, else SQLite in mlruns/.

    A relative SQLite file is the project's, wherever in it the command runs: a retraining's worktree would get a store of its own.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    if not named:
        return sqlite_uri(paths.home() / paths.MLRUNS / "mlflow.db")
    file = database_file(named)
    if file is None or file.is_absolute():
        return named
    try:
        return sqlite_uri(paths.home() / file)
    except UserError:  # no project here
        return named


def existing_uri() -> str | None:
    """As `tracking_uri`; None where that is an SQLite file which is not there, or nobody named a store and this is no project's folder.

    Makes nothing, and does not import MLflow.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        try:
            paths.project_root()
        except UserError:
            return None
    uri = tracking_uri()
    file = database_file(uri)
    return uri if file is None or file.exists() else None


def is_server(uri: str) -> bool:
    """Whether an MLflow server stands behind `uri`, which then decides where artifacts go."""
    return uri.startswith(("http://", "https://"))


def database_file(uri: str) -> Path | None:
    """The SQLite file behind `uri`, None for other stores."""
    if uri.startswith(_SQLITE_ENCODED):
        return Path(unquote(uri.removeprefix(_SQLITE_ENCODED).partition("?")[0]))
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def sqlite_uri(file: Path) -> str:
    """The address of an SQLite file; percent-encoded where its path holds a `?`, which would end it."""
    return f"{_SQLITE_ENCODED}{quote(str(file))}?uri=true" if "?" in str(file) else f"{_SQLITE}{file}"


def artifact_folder(uri: str) -> Path:
    """Where artifacts of a store without a server go: beside its SQLite file, else (a database elsewhere) in the project's mlruns/."""
    file = database_file(uri)
    return (file.absolute().parent if file else paths.home() / paths.MLRUNS) / "artifacts"


def client(uri: str) -> "MlflowClient":
    """A client for the store `uri`, which is made where it is missing. MLflow's own functions use that store from now on.

    Raises UserError within seconds when the server is away, or the database is damaged or locked.
    """
    found = _client(uri)  # which looks at the store before MLflow's import takes its seconds

    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return found


@lru_cache(maxsize=4)
def _client(uri: str) -> "MlflowClient":
    file = database_file(uri)
    if file is None:
        check_server(uri)
    elif file.exists():
        check_database(file)

    import mlflow

    _quieten()
    if file is not None and not file.exists():
        _make_database(file)
    with errors(uri):
        return mlflow.MlflowClient(uri, registry_uri=uri)


def _quieten() -> None:
    """MLflow tells how it makes its tables, and prints a traceback of each error that it raises as well."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in ("mlflow.store.db.utils", "mlflow.utils.async_logging", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _make_database(file: Path) -> None:
    """An SQLite store with all tables and the project's experiment, which appears only when complete.

    Making the tables takes seconds. A process that is killed meanwhile would leave half of them, which MLflow refuses for ever.
    """
    import mlflow
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):  # two processes that make it at once would each lose the other's first run
        if file.exists():
            return
        with new_file(file) as beside:
            making = mlflow.MlflowClient(sqlite_uri(beside))
            making.create_experiment(EXPERIMENT, artifact_folder(sqlite_uri(file)).as_uri(), _EXPERIMENT_TAGS)


def check_database(file: Path) -> None:
    """Raises UserError when the SQLite file is cut off, no database, or locked by another program. Reads no more than its first page."""
    try:
        with file.open("rb") as stream:
            head = stream.read(100)
        whole = _stated_size(head) <= file.stat().st_size and len(head) == 100
        if whole:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as database:
                database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise UserError(f"{file}: cannot be read ({error}); check its owner and mode") from None
        raise UserError(f"{file}: locked by another program for {PATIENCE:.0f} s; try again when that has ended") from None
    except (sqlite3.DatabaseError, IsADirectoryError):
        whole = False
    if not whole:
        raise Damaged(f"{file}: no whole SQLite database; restore a backup, or let ctmr doctor --fix put it aside")


def _stated_size(head: bytes) -> int:
    """Bytes that an SQLite file has by its own header (sqlite.org/fileformat2.html, 1.3); 0 where it does not say."""
    if len(head) < 100 or head[24:28] != head[92:96]:
        return 0
    page = int.from_bytes(head[16:18], "big")
    return (65536 if page == 1 else page) * int.from_bytes(head[28:32], "big")


def check_server(uri: str) -> None:
    """Raises UserError when nobody answers at `uri`. MLflow itself would try for minutes, a database for longer."""
    import requests

    try:
        place = urlsplit(uri)
        if is_server(uri):
            insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
            verify = not insecure and (os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True)
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=PATIENCE, verify=verify)
            problem = f"it answers {answer.status_code} {answer.reason}" if answer.status_code >= 500 else ""
        elif place.hostname:
            socket.create_connection((place.hostname, place.port or _PORTS.get(place.scheme.partition("+")[0], 0)), PATIENCE).close()
            problem = ""
        else:
            return
    except (OSError, ValueError) as error:  # those of requests are OSErrors, a port that is none is a ValueError
        problem = _reason(error)
    if problem:
        raise _unusable(uri, problem)


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """One line for the user where the store `uri` cannot be reached, refuses, or is damaged."""
    try:
        yield
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"MLflow store {uri}: {describe_missing(error) or error}") from None
    except Exception as error:
        if not isinstance(error, _kinds()):
            raise
        raise _unusable(uri, _reason(error)) from None


def _kinds() -> tuple[type[Exception], ...]:
    """What MLflow, its database and its artifacts raise where they cannot be used."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    kinds: list[type[Exception]] = [MlflowException, SQLAlchemyError, CommandError, ConnectionError]
    if "botocore.exceptions" in sys.modules:  # artifacts on S3, through MLflow
        kinds += [sys.modules["botocore.exceptions"].BotoCoreError, sys.modules["botocore.exceptions"].ClientError]
    return tuple(kinds)


def _unusable(uri: str, reason: str) -> UserError:
    file = database_file(uri)
    if file is not None and file.exists() and not all(os.access(place, os.W_OK) for place in (file, file.absolute().parent)):
        return UserError(f"{file}: may only be read here, and this wants to write; check owner and mode of it and of its folder")
    if "out-of-date database schema" in reason:
        advice = "take a backup and run mlflow db upgrade" if file is None else "ctmr doctor --fix brings it up to date"
        return OtherSchema(f"MLflow store {uri}: was made by another version of MLflow than {version('mlflow')}; {advice}")
    advice = "start it, or set MLFLOW_TRACKING_URI to another" if file is None else "see ctmr doctor"
    return UserError(f"MLflow store {uri}: cannot be used ({reason}); {advice}")


def _reason(error: Exception) -> str:
    """The first line of an error, or the innermost cause where that says more than a chain of "caused by"."""
    while isinstance(error.__cause__ or error.__context__, Exception) and not str(error).strip():
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return next(iter(str(error).splitlines()), type(error).__name__)


def experiment_id(uri: str) -> str:
    """The id of the project's experiment in the store, which is made where it is missing.

    Raises UserError when the store was moved here from another folder and would put artifacts there, or the experiment was deleted.
    """
    from mlflow.exceptions import MlflowException

    known = client(uri)
    found = known.get_experiment_by_name(EXPERIMENT)
    if found is None:
        place = None if is_server(uri) else artifact_folder(uri).as_uri()
        try:
            return known.create_experiment(EXPERIMENT, place, _EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was faster
                raise
        found = known.get_experiment_by_name(EXPERIMENT)
    where = f"MLflow store {uri}"
    if found is None or found.lifecycle_stage == "deleted":
        raise UserError(f"{where}: experiment {EXPERIMENT} was deleted; ctmr doctor --fix restores it")
    if database_file(uri) and found.artifact_location != artifact_folder(uri).as_uri():
        raise UserError(f"{where}: was made in another place ({found.artifact_location}); run ctmr doctor --fix")
    return str(found.experiment_id)


def comparison_address(experiment: str) -> str:
    """The part of the UI's address after host and port that opens run comparison: curves, images and scores of several runs.

    A fresh browser that is sent to the bare address lands on MLflow's pages for language models instead.
    """
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"


def run_address(experiment: str, run_id: str) -> str:
    """As comparison_address, of one run: its scores, parameters, data set, models."""
    return f"/#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
