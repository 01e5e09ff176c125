"""Where a retraining works: a git worktree below .dvc/tmp, so that the user's files, params and branch stay as they are.

It holds the tracked files as they stand in the user's folder, uncommitted changes included (as with `dvc exp run --temp`;
the experiment's commit records them), shares DVC's cache and the checkpoints with it, and starts from the outputs of the last retraining.
"""

import configparser
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from filelock import FileLock, Timeout

from pipeline import paths
from pipeline.errors import UserError

MARK = "CTMR_RETRAINING"  # set for every process that works in the worktree, so that leftovers of a killed retraining are found


class Busy(Exception):
    """Another retraining of this folder is at work."""


@dataclass(frozen=True)
class Workspace:
    """A worktree of the project in `repo`; `base` is the commit it grew from."""

    repo: Path
    folder: Path
    base: str

    @property
    def env(self) -> dict[str, str]:
        return {MARK: str(self.folder)}

    @property
    def cache(self) -> Path:
        config = configparser.RawConfigParser()
        config.read(self.folder / ".dvc/config.local", encoding="utf-8")
        return Path(config["cache"]["dir"])

    def lock(self) -> dict[str, Any]:
        """The stages of dvc.lock; empty without one."""
        file = self.folder / paths.DVC_LOCK
        return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("stages", {}) if file.is_file() else {}

    def params(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load((self.folder / paths.PARAMS).read_text(encoding="utf-8"))
        return content


@contextmanager
def only_one(repo: Path, who: str) -> Iterator[None]:
    """Hold the lock of the one retraining that may be at work in `repo`. Raises Busy, saying who is, when another holds it.

    The kernel frees a dead process's lock; what it started and left running is ended here.
    """
    folder = repo / paths.RETRAIN_WORK
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder"
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(holder.read_text(encoding="utf-8") if holder.is_file() else "another process") from None
    try:
        holder.write_text(f"{who} (process {os.getpid()})", encoding="utf-8")
        _end_leftovers(folder)
        yield
    finally:
        holder.unlink(missing_ok=True)
        (folder / "ended").touch()
        lock.release()


def last_end(repo: Path) -> float:
    """When the last retraining in `repo` ended, seconds since 1970; 0 when there was none."""
    file = repo / paths.RETRAIN_WORK / "ended"
    return file.stat().st_mtime if file.is_file() else 0.0


def prepare(repo: Path, name: str = "workspace", commit: str | None = None) -> Workspace:
    """The worktree `name`, with the tracked files of `commit`, default: as they stand in `repo`; a damaged one is made anew.

    Raises UserError when `repo` is no git repository with a commit.
    """
    base = commit or git(repo, "rev-parse", "--verify", "-q", "HEAD^{commit}", or_else="no commit; commit the project first")
    # A commit of the tracked files with their uncommitted changes, that neither touches them nor enters the list of stashes.
    tree = commit or git(repo, "stash", "create", or_else="its changes cannot be read") or base
    folder = repo / paths.RETRAIN_WORK / name
    try:
        _fill(repo, folder, base, tree)
    except (UserError, OSError):  # a process that was killed in git leaves its locks behind, for example
        shutil.rmtree(folder, ignore_errors=True)
        _fill(repo, folder, base, tree)
    _share_cache(repo, folder)
    return Workspace(repo, folder, base)


def _fill(repo: Path, folder: Path, base: str, tree: str) -> None:
    """Bring the worktree in `folder`, made here if need be, to `tree`. Raises UserError when it is damaged."""
    git(repo, "worktree", "prune", or_else="worktrees cannot be listed")
    if not (folder / ".git").exists() or str(folder) not in git(repo, "worktree", "list", or_else="worktrees cannot be listed"):
        shutil.rmtree(folder, ignore_errors=True)
        git(repo, "worktree", "add", "-q", "--force", "--detach", "--no-checkout", str(folder), base, or_else=f"no worktree in {folder}")
    with suppress(FileNotFoundError):
        (folder / paths.CHECKPOINTS).unlink()  # our link: `git clean` would follow nothing, but stop at it
    git(folder, "update-ref", "--no-deref", "HEAD", base, or_else="the worktree is damaged")
    git(folder, "read-tree", "-u", "--reset", tree, or_else="the worktree is damaged")
    git(folder, "clean", "-fdq", or_else="the worktree cannot be cleaned")


def share_checkpoints(workspace: Workspace) -> None:
    """Let training resume from, and leave, checkpoints of the project itself; its lock keeps two trainings apart there."""
    (workspace.repo / paths.CHECKPOINTS).mkdir(exist_ok=True)
    (workspace.folder / paths.CHECKPOINTS).symlink_to(workspace.repo / paths.CHECKPOINTS)


def cached(workspace: Workspace, file: Path) -> Path | None:
    """`file`, an output of the graph or inside one, as dvc.lock has it, in DVC's cache; None when it is not there."""
    for stage in workspace.lock().values():
        for out in stage.get("outs", []):
            output, digest = Path(out["path"]), out["md5"]
            if output == file or output in file.parents:
                if digest.endswith(".dir"):
                    digest = listing(workspace.cache, digest).get(file.relative_to(output).as_posix(), "")
                place = _place(workspace.cache, digest)
                return place if digest and place.is_file() else None
    return None


def listing(cache: Path, digest: str) -> dict[str, str]:
    """Digest of each file of a folder that DVC's cache holds under `digest`; empty when it does not."""
    file = _place(cache, digest)
    if not file.is_file():
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(file.read_text(encoding="utf-8"))}


def git(folder: Path, *arguments: str, or_else: str) -> str:
    """What git prints. Raises UserError, with git's own reason, saying `or_else`."""
    person = (
        [] if os.environ.get("GIT_COMMITTER_EMAIL") or _has_person(folder) else ["-c", "user.name=ctmr", "-c", "user.email=ctmr@localhost"]
    )
    ended = subprocess.run(["git", *person, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"{folder}: {or_else} (git {arguments[0]}: {' '.join(ended.stderr.split()) or 'no such commit'})")
    return ended.stdout.strip()


def _has_person(folder: Path) -> bool:
    return subprocess.run(["git", "config", "user.email"], cwd=folder, capture_output=True, check=False).returncode == 0


def _place(cache: Path, digest: str) -> Path:
    return cache / "files/md5" / digest[:2] / digest[2:]


def _share_cache(repo: Path, folder: Path) -> None:
    """Point the worktree's DVC at the project's cache; its other local settings (remotes, credentials) are the project's."""
    config, committed = configparser.RawConfigParser(), configparser.RawConfigParser()
    config.read(repo / ".dvc/config.local", encoding="utf-8")
    committed.read(repo / ".dvc/config", encoding="utf-8")
    if not config.has_section("cache"):
        config.add_section("cache")
    own = Path(str(config["cache"].get("dir") or committed.get("cache", "dir", fallback="cache")))
    config["cache"]["dir"] = str(own if own.is_absolute() else (repo / ".dvc" / own).resolve())
    with (folder / ".dvc/config.local").open("w", encoding="utf-8") as file:
        config.write(file)


def _end_leftovers(folder: Path) -> None:
    """End processes that a killed retraining left running in `folder`."""
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(f"{folder}{os.sep}"):
                process.terminate()
                left.append(process)
    began = time.monotonic()
    _, stubborn = psutil.wait_procs(left, timeout=10)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()
    if left:
        print(f"ended {len(left)} processes that an earlier retraining had left running ({time.monotonic() - began:.0f} s)")
