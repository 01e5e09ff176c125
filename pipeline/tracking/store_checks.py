"""What can be wrong with the MLflow store: the database, its addresses, the experiment, runs of the dead, the files of every alias."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

from pipeline import paths
from pipeline.atomic import new_file
from pipeline.domain import DIRECTIONS, Direction
from pipeline.errors import UserError
from pipeline.params import load
from pipeline.processes import hold_lock
from pipeline.tracking import packaging, registry, runs, store
from pipeline.tracking.folder_checks import Finding

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# MLflow has no call that changes where it looks for artifacts (mlflow#3144): the addresses are mended where it keeps them.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def database() -> Iterator[Finding]:
    """The database of a local store: whole by SQLite's own check, with all of MLflow's tables. A server: whether it answers."""
    uri = store.tracking_uri()
    file = store.database_file(uri)
    if file is None:
        store.check_server(uri)
    if file is None or not file.exists():
        return
    try:
        store.check_database(file)
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=store.PATIENCE)) as opened:
            damage = [row[0] for row in opened.execute("PRAGMA quick_check(1)").fetchall() if row[0] != "ok"]
    except store.Damaged as error:
        damage = [str(error)]
    except sqlite3.DatabaseError as error:
        damage = [str(error)]
    if not damage:
        try:
            with store.errors(uri):
                store.client(uri).search_experiments(max_results=1)
            damage = [f"it lacks {', '.join(missing)}"] if (missing := _find_missing(file)) else []
        except store.OtherSchema as error:
            yield Finding(str(error), mend=lambda: _upgrade(uri, file))
        except UserError as error:
            damage = [str(error)]
    if damage:
        aside = _free_name(file, "damaged")
        remedy = f"restore a backup of it, or run ctmr doctor --fix, which puts it aside as {aside.name} and begins a new one"
        yield Finding(f"{file}: damaged ({damage[0]})", remedy, lambda: _put_aside(file, aside))


def moved() -> Iterator[Finding]:
    """Whether the store was moved or copied here and still looks for its artifacts where it came from."""
    uri = store.tracking_uri()
    file = store.database_file(uri)
    if file is None or not file.is_file():
        return
    ours = store.artifact_folder(uri)
    with store.errors(uri):
        experiment = store.client(uri).get_experiment_by_name(store.EXPERIMENT)
    old = Path(unquote(experiment.artifact_location.removeprefix("file://"))) if experiment else ours
    if old != ours:
        problem = f"the store was made in another place: it looks for artifacts in {old}, but they lie in {ours}"
        yield Finding(problem, mend=lambda: _mend_addresses(file, old, ours))


def experiment() -> Iterator[Finding]:
    """Whether the project's experiment was deleted."""
    uri = store.tracking_uri()
    if not _is_made(uri):
        return
    with store.errors(uri):
        found = store.client(uri).get_experiment_by_name(store.EXPERIMENT)
        if found is not None and found.lifecycle_stage == "deleted":
            problem = f"the experiment {store.EXPERIMENT} was deleted"
            yield Finding(problem, mend=lambda: store.client(uri).restore_experiment(found.experiment_id))


def stale_runs() -> Iterator[Finding]:
    """Runs that are RUNNING by processes of this machine that are gone."""
    if not _is_made(store.tracking_uri()):
        return
    for run in runs.find_stale_runs():
        name = run.info.run_name or run.info.run_id
        yield Finding(f"run {name} is RUNNING, but its process is gone", mend=lambda: runs.end_stale_runs())


def aliases() -> Iterator[Finding]:
    """The files of every version that bears an alias: whether they are there and have the digest that they were registered with."""
    uri = store.tracking_uri()
    if not _is_made(uri):
        return
    with store.errors(uri):
        versions = [version for name in registry.MODEL_NAMES for version in registry.versions(uri, name) if version.aliases]
    for version in versions:
        who = f"{version.name} version {version.version} ({', '.join(sorted(version.aliases))})"
        direction = Direction.from_model_name(version.name)
        try:
            folder = registry.files(uri, version)
            damage = _damage(folder, direction, version) or (_package_damage(folder.parents[1]) if store.database_file(uri) else "")
        except UserError as error:
            folder, damage = None, str(error)
        if damage:
            yield Finding(f"{who}: {damage}", *_cure(uri, version, direction, folder))


def artifact_folders() -> Iterator[Finding]:
    """Whether who may write the database may write artifacts too: training and registering fail there, hours later."""
    uri = store.tracking_uri()
    file, top = store.database_file(uri), store.artifact_folder(uri)
    if file is None or not os.access(file, os.W_OK) or not top.is_dir():
        return
    folders = (folder for folder in (top, *top.glob("*"), *top.glob("*/artifacts")) if folder.is_dir())
    if closed := next((folder for folder in folders if not os.access(folder, os.W_OK | os.X_OK)), None):
        yield Finding(f"{closed}: may only be read here, though mlflow.db may be written", f"check owner and mode: chmod -R u+w {top}")


def lost_versions() -> Iterator[Finding]:
    """Aliases of versions that are gone: nobody else can say why there is no champion."""
    uri = store.tracking_uri()
    if not _is_made(uri):
        return
    with store.errors(uri):
        lost = [(name, alias, number) for name in registry.MODEL_NAMES for alias, number in registry.lost_aliases(uri, name).items()]
    for name, alias, number in lost:
        remedy = f"ctmr doctor --fix removes the alias; ctmr promote {name} VERSION makes another version champion"
        mend = partial(store.client(uri).delete_registered_model_alias, name, alias)
        yield Finding(f"{name}: version {number}, its {alias}, is gone", remedy, mend)


def unregistered() -> Iterator[Finding]:
    """Models of this folder that the registry does not have: the store is new, or was lost."""
    if not paths.MODEL_JSON.is_file():
        return
    uri = store.tracking_uri()
    with store.errors(uri):
        known = {direction: registry.find(uri, direction, registry.weights_digest(direction)) for direction in DIRECTIONS}
    missing = [direction.model_name for direction, version in known.items() if version is None]
    if missing:
        problem = f"the registry {uri} lacks this folder's {' and '.join(missing)}"
        remedy = "run dvc repro --single-item --force register"
        if paths.METRICS_JSON.is_file():
            yield Finding(problem, f"{remedy}, or ctmr doctor --fix", _register)
        else:
            yield Finding(problem, remedy)


ALL: tuple[Callable[[], Iterator[Finding]], ...] = (moved, experiment, stale_runs, artifact_folders, aliases, lost_versions, unregistered)


def _is_made(uri: str) -> bool:
    """Whether there is a store to look at; a local one that nobody has used yet is none."""
    file = store.database_file(uri)
    return file is None or file.is_file()


def _free_name(file: Path, what: str) -> Path:
    return next(place for number in range(1, 1000) if not (place := file.with_name(f"{file.name}.{what}-{number}")).exists())


def _upgrade(uri: str, file: Path) -> None:
    """Bring the tables up to those of this MLflow, with the database as it was kept beside it."""
    kept = _free_name(file, "before-upgrade")
    with closing(sqlite3.connect(file)) as database, new_file(kept) as beside, closing(sqlite3.connect(beside)) as copy:
        database.backup(copy)
    done = subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", uri], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(
            f"{file}: cannot be brought to this version of MLflow ({reason}); was it made by a newer one? "
            f"Use that here, or restore a backup; as it was it lies in {kept.name}"
        )


def _find_missing(file: Path) -> list[str]:
    """Tables of MLflow that the database does not have, and columns of others. MLflow itself looks at its version alone."""
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.dbmodels import models as _of_the_registry  # noqa: F401 - which fill `Base`
    from mlflow.store.tracking.dbmodels import models as _of_tracking  # noqa: F401

    missing = []
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=store.PATIENCE)) as database:
        for name, table in sorted(Base.metadata.tables.items()):
            columns = {row[1] for row in database.execute(f'PRAGMA table_xinfo("{name}")')}
            missing += [name] if not columns else [f"{name}.{column.name}" for column in table.columns if column.name not in columns]
    return missing


def _put_aside(file: Path, aside: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        place = file.with_name(file.name + suffix)
        if place.exists():
            place.rename(aside.with_name(aside.name + suffix))


def _damage(folder: Path, direction: Direction, version: "ModelVersion") -> str:
    """What is wrong with the files of a version, "" when nothing is."""
    wanted = version.tags.get(registry.WEIGHTS, "")
    try:
        entry = json.loads((folder / paths.MODEL_JSON.name).read_text(encoding="utf-8"))["directions"][direction]
        weights = folder / entry["weights"]
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        return f"{error.filename} is gone"
    except (ValueError, KeyError, TypeError):
        return f"{folder / paths.MODEL_JSON.name} is damaged"
    return "" if digest == entry["sha256"] == wanted else f"{weights} was altered, its digest is not the one that was registered"


def _package_damage(package: Path) -> str:
    """What MLflow lacks to load a model by its own functions (`mlflow.pyfunc.load_model`), "" when nothing."""
    description = package / "MLmodel"
    try:
        flavor = yaml.load(description.read_text(encoding="utf-8"), yaml.CSafeLoader)["flavors"]["python_function"]
        parts = [package / flavor["code"], package / Path(flavor["model_code_path"]).name]
    except FileNotFoundError:
        return f"{description} is gone"
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError):
        return f"{description} is damaged"
    return next((f"{part} is gone" for part in parts if not part.exists()), "")


def _cure(uri: str, version: "ModelVersion", direction: Direction, folder: Path | None) -> tuple[str, Callable[[], object] | None]:
    """What to do about damaged files of a version: from models/ where they lie there, fetched again, or by a person."""
    if store.database_file(uri) is None and folder is not None:
        return "ctmr doctor --fix fetches them again", partial(shutil.rmtree, folder)
    try:
        ours = registry.weights_digest(direction) == version.tags.get(registry.WEIGHTS) and not _damage(paths.MODELS, direction, version)
    except UserError:
        ours = False
    if ours and store.database_file(uri) is not None:
        return f"ctmr doctor --fix restores them from {paths.MODELS}", partial(_restore, uri, version, direction)
    other = f"ctmr rollback {version.name}" if registry.CHAMPION in version.aliases else "delete this version in the MLflow UI"
    return f"restore the folder from a backup; or dvc checkout the models of its commit and run ctmr doctor --fix; or {other}", None


def _restore(uri: str, version: "ModelVersion", direction: Direction) -> None:
    """Log the model of models/ once more, and put its files where those of `version` belong."""
    client, run = store.client(uri), runs.attach()
    with store.errors(uri):
        logged = packaging.log_model(run, direction, paths.MODELS)
        ours = registry.logged_model(version)
        addresses = [client.get_logged_model(model).artifact_location for model in (logged.model_id, ours)]
        fresh, place = (Path(unquote(urlsplit(address).path)) for address in addresses)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(fresh, place)
        client.delete_logged_model(logged.model_id)
        shutil.rmtree(fresh)


def _register() -> None:
    from pipeline.tracking.registration import register

    with hold_lock(paths.home() / paths.MLRUNS / "register.lock", "registration"):  # as the stage does
        register(load())


def _mend_addresses(file: Path, old: Path, ours: Path) -> None:
    """Write `ours` for `old` wherever MLflow keeps an address of an artifact: in five columns of its database and in each MLmodel."""
    pairs = ((old.as_uri(), ours.as_uri()), (str(old), str(ours)))
    with closing(sqlite3.connect(file, timeout=30)) as database, database:
        for table, column in _ADDRESSES:
            for before, after in pairs:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )
    for description in ours.rglob("MLmodel"):
        text = description.read_text(encoding="utf-8")
        mended = text.replace(f"{old.as_uri()}/", f"{ours.as_uri()}/").replace(f"{old}/", f"{ours}/")
        if mended != text:
            with new_file(description) as beside:
                beside.write_text(mended, encoding="utf-8")
