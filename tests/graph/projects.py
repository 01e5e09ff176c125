"""Copies of this project, each a git repository of its own with its own MLflow store, in which the real commands run."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from pipeline import presets
from tests.tracking.stores import make_store

SOURCE = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STAGES = ["look", "download", "validate", "split", "preprocess", "train", "evaluate", "register"]


@dataclass(frozen=True)
class Project:
    """A copy of the project; `env` is what its commands see beside PATH."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, timeout: float = 600, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, stderr joined to stdout; `expect` is the exit code it must have (None: any)."""
        ended = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        assert expect is None or ended.returncode == expect, f"{command} ended with {ended.returncode}:\n{ended.stdout[-4000:]}"
        return ended

    def repro(self, *arguments: str, expect: int | None = 0) -> str:
        """`dvc repro` with `arguments`; gives what it printed."""
        return self.run("dvc", "repro", *arguments, expect=expect).stdout

    def run_stages(self, *stages: str) -> str:
        """The `stages` in one process, without DVC, since imports are most of what each takes here; gives what they printed."""
        code = f"import importlib\nfor stage in {list(stages)}: importlib.import_module(f'stages.{{stage}}').main()"
        return self.run(sys.executable, "-c", code).stdout

    def prepare_slices(self) -> None:
        """Every stage before training done, and known to DVC and git, so that what comes begins with training."""
        before = STAGES[: STAGES.index("train")]
        self.run_stages(*before)
        self.run("dvc", "commit", "-f", *before)
        self.commit("slices")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **self.env}

    def settings(self, preset: str | None, *settings: str) -> None:
        """Change params.yaml as `ctmr preset` does."""
        presets.apply([preset] if preset else [], settings, self.folder / "params.yaml", self.folder / "presets")

    def commit(self, message: str = "as it is") -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)


def copy_project(target: Path, preset: str | None = "smoke", *settings: str, with_store: bool = True) -> Project:
    """A copy in `target`/project of every file that git knows or would know, with params changed, committed in a new repository.

    `with_store`: with an empty MLflow store, which its own commands would take seconds to make.
    """
    folder = target / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=SOURCE, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (SOURCE / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, folder / name)
    # Compiled files as well: else each copy compiles 200 of them.
    for cache in (cache for package in ("pipeline", "stages") for cache in (SOURCE / package).rglob("__pycache__")):
        shutil.copytree(cache, folder / cache.relative_to(SOURCE), dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pyc.*"))
    person = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A Tester"), ("EMAIL", "t@example.org"))
    }
    project = Project(folder, {"DVC_SITE_CACHE_DIR": str(target / "dvc-site"), "PREFECT_HOME": str(target / "prefect"), **person})
    make_prefect_home(target / "prefect")
    if with_store:
        make_store(folder)
    project.settings(preset, *settings)
    (folder / "dvc.lock").unlink(missing_ok=True)
    project.run("git", "init", "-q")
    project.commit("start")
    return project


def init_dvc(folder: Path) -> None:
    """What `dvc init` writes in a git repository; a process of DVC for it takes a second in each of many tests."""
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").touch()
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")


def make_prefect_home(folder: Path) -> None:
    """A PREFECT_HOME with an empty database, which takes a server a quarter of a minute to make; made once on a machine."""
    made = Path(tempfile.gettempdir()) / f"ctmr-tests-prefect-{version('prefect')}.db"
    with FileLock(f"{made}.lock"):
        if not made.exists():
            with tempfile.TemporaryDirectory() as home:
                command = [BIN / "prefect", "server", "database", "upgrade", "-y"]
                subprocess.run(command, env={**os.environ, "PREFECT_HOME": home}, capture_output=True, check=True)
                shutil.copyfile(Path(home) / "prefect.db", f"{made}.new")
            Path(f"{made}.new").replace(made)
    folder.mkdir(exist_ok=True)
    shutil.copyfile(made, folder / "prefect.db")


def tree_bytes(folder: Path, *names: str) -> dict[str, bytes]:
    """Content of every file in `names` (files and folders) below `folder`, by relative path."""
    files = [file for name in names for file in ([folder / name] if (folder / name).is_file() else sorted((folder / name).rglob("*")))]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files if file.is_file()}
