"""Damage a finished project in every way we know, and see what each command makes of it.

    dvc repro && python benchmarks/corruption_drill.py            # in the project's folder; works on copies of it
    python benchmarks/corruption_drill.py --only mlflow.db        # those whose name holds this
    python benchmarks/corruption_drill.py --seconds 600           # on a busy machine

Where the project has no champion (the preset `smoke` makes none), version 1 is made champion in the copy.

A command passes when it does its work, or refuses in one line with exit code 2, within --seconds. The doctor passes when it names the
damage, mends what it says it can, and has nothing left to mend afterwards.
"""

import argparse
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60.0  # on two cores that others use as well; most commands take five
COMMANDS = ("models", "where", "rollback mr-to-ct", "translate", "register")
DOCTOR = ("doctor", "doctor --fix", "doctor, once more")


@contextmanager
def cut_off(file: Path) -> Iterator[None]:
    os.truncate(file, file.stat().st_size // 2)
    yield


@contextmanager
def emptied(file: Path) -> Iterator[None]:
    os.truncate(file, 0)
    yield


@contextmanager
def garbage(file: Path) -> Iterator[None]:
    file.write_bytes(os.urandom(4096))
    yield


@contextmanager
def flipped(file: Path) -> Iterator[None]:
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))
    yield


@contextmanager
def removed(place: Path) -> Iterator[None]:
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    yield


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program writes into the database and does not end."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def half_made(file: Path) -> Iterator[None]:
    """As MLflow leaves a database when it is killed while it makes its tables."""
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name VARCHAR(256))")
    yield


@contextmanager
def experiment_deleted(file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'ctmr'")
    yield


@contextmanager
def table_dropped(file: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("DROP TABLE model_version_tags")
    yield


@contextmanager
def version_gone(file: Path) -> Iterator[None]:
    """The champion's alias names a version that does not exist."""
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE registered_model_aliases SET version = 99 WHERE alias = 'champion'")
    yield


@contextmanager
def server_away(_: Path) -> Iterator[None]:
    yield


def champions_file(project: Path, pattern: str) -> Path:
    return next((project / "mlruns/artifacts").rglob(pattern))


DAMAGES: dict[str, tuple[Callable[[Path], contextlib.AbstractContextManager[None]], Callable[[Path], Path]]] = {
    "mlflow.db cut off": (cut_off, lambda project: project / "mlruns/mlflow.db"),
    "mlflow.db emptied": (emptied, lambda project: project / "mlruns/mlflow.db"),
    "mlflow.db garbage": (garbage, lambda project: project / "mlruns/mlflow.db"),
    "mlflow.db half made": (half_made, lambda project: project / "mlruns/mlflow.db"),
    "mlflow.db locked": (locked, lambda project: project / "mlruns/mlflow.db"),
    "mlflow.db removed": (removed, lambda project: project / "mlruns/mlflow.db"),
    "experiment deleted": (experiment_deleted, lambda project: project / "mlruns/mlflow.db"),
    "a table of mlflow.db dropped": (table_dropped, lambda project: project / "mlruns/mlflow.db"),
    "the champion's version gone": (version_gone, lambda project: project / "mlruns/mlflow.db"),
    "artifacts removed": (removed, lambda project: project / "mlruns/artifacts"),
    "champion's weights altered": (flipped, lambda project: champions_file(project, "*.safetensors")),
    "champion's model.json cut off": (cut_off, lambda project: champions_file(project, "model.json")),
    "server away": (server_away, lambda project: project),
    "DVC's cache removed": (removed, lambda project: project / ".dvc/cache"),
    "split.parquet cut off": (cut_off, lambda project: project / "data/split.parquet"),
    "a byte of DVC's cache flipped": (flipped, lambda project: max((project / ".dvc/cache").rglob("*"), key=_size)),
    "rwlock emptied": (emptied, lambda project: project / ".dvc/tmp/rwlock"),
}


def _size(place: Path) -> int:
    return place.stat().st_size if place.is_file() else 0


def run(command: list[str], project: Path, longest: float, uri: str = "") -> tuple[int, list[str], float]:
    """Exit code, lines of output and seconds; 124 when it took longer than `longest`."""
    env = {**os.environ, **({"MLFLOW_TRACKING_URI": uri} if uri else {})}
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=longest, check=False
        )
        code, lines = ended.returncode, ended.stdout.splitlines()
    except subprocess.TimeoutExpired as error:
        code, lines = 124, str(error.stdout or "").splitlines()
    return code, lines, time.monotonic() - began


def verdict(code: int, lines: list[str]) -> str:
    """`ok`, `one line` for a refusal, or what is wrong with it."""
    if code == 0:
        return "ok"
    errors = [line for line in lines if line.startswith("error: ")]
    if any(line.startswith("Traceback") for line in lines):
        return f"TRACEBACK of {len(lines)} lines"
    return "one line" if code == 2 and len(errors) == 1 and len(lines) < 6 else f"CODE {code}, {len(lines)} lines"


def judge_doctor(command: str, code: int, lines: list[str]) -> str:
    """What the doctor found and mended; in capitals where it misses the damage, or leaves what it could mend."""
    problems, mended = (sum(line.startswith(word) for line in lines) for word in ("problem: ", "mended: "))
    if any(line.startswith("Traceback") for line in lines):
        return f"TRACEBACK of {len(lines)} lines"
    if command == "doctor":
        return f"finds {problems}" if problems else f"FINDS NOTHING, code {code}"
    if command == "doctor --fix":
        return f"mends {mended}, leaves {problems}"
    unmended = sum("--fix" in line for line in lines if line.startswith("problem: "))
    return f"LEAVES {unmended} that it can mend" if unmended else f"{problems} left to a person"


def drill(name: str, folder: Path, longest: float) -> bool:
    """One kind of damage: every command and the doctor, each on a fresh copy of the project; True when all passed."""
    damage, place = DAMAGES[name]
    uri = "http://127.0.0.1:9" if name == "server away" else ""
    project, passed = folder / "project", True
    print(f"{name}:", flush=True)
    for command in (*COMMANDS, *DOCTOR):
        if command in (*COMMANDS, "doctor"):  # fixing, and looking once more, go on with what the doctor saw
            refresh(folder)
            inside = damage(place(project))
        with inside if command in (*COMMANDS, "doctor") else contextlib.nullcontext():
            code, lines, seconds = run(words(command, project, folder), project, longest, uri)
        said = judge_doctor(command, code, lines) if command in DOCTOR else verdict(code, lines)
        good = said.split()[0] != said.split()[0].upper() or said[0].isdigit()
        passed = passed and good
        told = next((line for line in lines if line.startswith(("error: ", "problem: ", "mended: "))), "")
        print(f"  {'' if good else 'FAILED '}{command:18} {seconds:5.1f} s  {said:24} {told}", flush=True)
    return passed


def words(command: str, project: Path, folder: Path) -> list[str]:
    if command == "register":
        return [sys.executable, "-m", "stages.register"]
    if command == "translate":
        picture = next(file for file in sorted((project / "data/raw").rglob("*")) if file.is_file() and "mr" in file.parts)
        return ["ctmr", "translate", str(picture), str(folder / f"out{picture.suffix}"), "--to", "ct"]
    return ["ctmr", *command.replace(", once more", "").split()]


def prepare(source: Path, folder: Path) -> None:
    """A copy of the project in `folder`, told that it has moved there, and a second one that `refresh` takes it from."""
    left_out = shutil.ignore_patterns(".venv", "checkpoints", "__pycache__")
    shutil.copytree(source, folder / "project", symlinks=True, ignore=left_out)
    subprocess.run(["ctmr", "doctor", "--fix"], cwd=folder / "project", check=True)
    if "champion" not in subprocess.run(["ctmr", "models"], cwd=folder / "project", check=True, capture_output=True, text=True).stdout:
        for model in ("ct-to-mr", "mr-to-ct"):
            subprocess.run(["ctmr", "promote", model, "1"], cwd=folder / "project", check=True)
    shutil.copytree(folder / "project", folder / "whole", symlinks=True)


def refresh(folder: Path) -> None:
    shutil.rmtree(folder / "project", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "project", symlinks=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="a folder in which dvc repro has run")
    parser.add_argument("--only", default="", help="damages whose name holds this")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="what a command may take")
    options = parser.parse_args()
    if not (options.project / "mlruns/mlflow.db").is_file():
        sys.exit(f"{options.project}: no mlruns/mlflow.db; run dvc repro there first")
    chosen = [name for name in DAMAGES if options.only in name]
    with tempfile.TemporaryDirectory(prefix="corruption-") as folder:
        prepare(options.project.resolve(), Path(folder))
        failed = [name for name in chosen if not drill(name, Path(folder), options.seconds)]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} damages passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
