"""An empty MLflow store on SQLite, which takes MLflow seconds to make; made once on a machine."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from pipeline import paths
from pipeline.tracking.store import EXPERIMENT, artifact_folder, sqlite_uri

SOURCE = Path(__file__).parents[2]
MAKE = "import sys; from pipeline.tracking import store; store.client(store.sqlite_uri(store.Path(sys.argv[1])))"


SERVED = "mlflow-artifacts:/1"  # where files of the experiment go through the server


def make_store(project: Path) -> None:
    """mlruns/mlflow.db of the folder `project`, as the first stage that tracks anything makes it."""
    make_database(project / paths.MLRUNS / "mlflow.db")


def make_database(file: Path, artifacts: str | None = None) -> str:
    """An empty store in `file` whose runs keep their files at `artifacts`, default: beside it; gives its address."""
    made = Path(tempfile.gettempdir()) / f"ctmr-tests-mlflow-{version('mlflow')}.db"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / made.name
                subprocess.run([sys.executable, "-c", MAKE, str(file)], cwd=SOURCE, capture_output=True, check=True)
                shutil.copyfile(file, f"{made}.new")
            Path(f"{made}.new").replace(made)
    file.parent.mkdir(exist_ok=True)
    shutil.copyfile(made, file)
    with closing(sqlite3.connect(file)) as database, database:
        place = artifacts or artifact_folder(sqlite_uri(file)).as_uri()
        changed = database.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (place, EXPERIMENT))
        assert changed.rowcount == 1
    return sqlite_uri(file)
