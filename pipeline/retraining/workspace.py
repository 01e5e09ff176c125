"""Where a retraining works: a git worktree below .dvc/tmp, so that the user's files, params and branch stay as they are.

It holds the tracked files as they stand in the user's folder, uncommitted changes included (as with `dvc exp run --temp`; the experiment's
commit records them), shares DVC's cache and the checkpoints with it, and starts from the outputs of the last retraining.

`dvc exp run --temp` itself was tried: it runs the whole graph at once, in a copy that is removed afterwards. Params could not be set
between stages, a stage would have no time limit of its own, and each run would bring all outputs from the cache again.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from filelock import FileLock, Timeout

from pipeline import paths, processes
from pipeline.errors import UserError, say
from pipeline.processes import environment

NO_REPOSITORY = "retraining needs a git repository with a commit that this user may read"
MARK = "CTMR_RETRAINING"  # set for every process that works in the worktree, so that leftovers of a killed retraining are found


class Busy(Exception):
    """Another retraining of this folder is at work."""


class TrainingByHand(Busy):
    """A person trains in this folder, by `dvc repro`."""


@dataclass(frozen=True)
class Workspace:
    """The project in `repo` once more in `folder`, inside a git worktree; `base` is the commit it grew from."""

    repo: Path
    folder: Path
    base: str

    @property
    def env(self) -> dict[str, str]:
        return {MARK: str(self.folder)}


@contextmanager
def hold_lock(repo: Path, who: str) -> Iterator[None]:
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
        said = holder.read_text(encoding="utf-8", errors="replace") if holder.is_file() else ""
        raise Busy(said or "another process") from None
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

    Raises UserError when `repo` is in no git repository with a commit.
    """
    check_repository(repo)
    base = commit or git(repo, "rev-parse", "--verify", "-q", "HEAD^{commit}", or_else=NO_REPOSITORY)
    tree = commit or _tree_as_it_stands(repo)
    top = repo / paths.RETRAIN_WORK / name
    # The project may be a folder of a larger repository (`dvc init --subdir`), of which the worktree has all.
    folder = top / git(repo, "rev-parse", "--show-prefix", or_else="its place in the repository cannot be told")
    try:
        _fill(repo, top, folder, base, tree)
    except (UserError, OSError):  # a process that was killed in git leaves its locks behind, for example
        shutil.rmtree(top, ignore_errors=True)
        _fill(repo, top, folder, base, tree)
    # Whoever calls holds the lock, so that no DVC is at work here: its locks and notes are of killed processes, and may be damaged.
    shutil.rmtree(folder / ".dvc/tmp", ignore_errors=True)
    _share_settings(repo, folder)
    return Workspace(repo, folder, base)


def check_repository(repo: Path) -> None:
    """Raises UserError where git or DVC cannot be asked about the project in `repo`: no repository, no commit, another owner's, or one
    of a kind that DVC's own reader of git does not know, such as with SHA-256."""
    import pygit2

    git(repo, "rev-parse", "--verify", "-q", "HEAD^{commit}", or_else=NO_REPOSITORY)
    pygit2.option(pygit2.enums.Option.SET_OWNER_VALIDATION, False)  # git has looked at that
    try:
        pygit2.Repository(git(repo, "rev-parse", "--absolute-git-dir", or_else=NO_REPOSITORY))
    except pygit2.GitError as error:
        raise UserError(f"{repo}: DVC cannot read this git repository ({error}); use one as `git init` makes it by default") from None


def discard(repo: Path, name: str = "workspace") -> None:
    """Remove the worktree `name`; `prepare` makes it anew. What it holds is in DVC's cache, or was of a stage that failed."""
    shutil.rmtree(repo / paths.RETRAIN_WORK / name, ignore_errors=True)


def left_behind(repo: Path, base: str) -> Workspace | None:
    """The worktree as a retraining from the commit `base` left it, None where it is of another one. Raises UserError outside of git."""
    top = repo / paths.RETRAIN_WORK / "workspace"
    if not (top / ".git").exists():
        return None
    head = git(top, "rev-parse", "HEAD", or_else="the worktree is damaged")
    prefix = git(repo, "rev-parse", "--show-prefix", or_else="its place in the repository cannot be told")
    return Workspace(repo, top / prefix, base) if head == base else None


def is_training(repo: Path) -> bool:
    """Whether a training is at work in the project's own folder; the retraining asks while it has none itself."""
    file = repo / paths.TRAINING_LOCK
    if not file.is_file():
        return False
    try:
        with processes.hold_lock(file, "training", wait=0):
            return False
    except UserError:
        return True


def share_checkpoints(workspace: Workspace) -> None:
    """Let training resume from, and leave, checkpoints of the project itself; its lock keeps two trainings apart there."""
    (workspace.repo / paths.CHECKPOINTS).mkdir(exist_ok=True)
    (workspace.folder / paths.CHECKPOINTS).symlink_to(workspace.repo / paths.CHECKPOINTS)


def git(folder: Path, *arguments: str, or_else: str, env: Mapping[str, str] | None = None, given: str = "") -> str:
    """What git prints, `given` on its stdin. Raises UserError, with git's own reason, saying `or_else`."""
    command = ["git", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment(env), input=given, capture_output=True, text=True, errors="replace", check=False
    )
    if ended.returncode:
        raise UserError(f"{folder}: {or_else} (git {arguments[0]}: {' '.join(ended.stderr.split()) or 'no such commit'})")
    return ended.stdout.strip()


def _tree_as_it_stands(repo: Path) -> str:
    """The tracked files with their uncommitted changes, and new files of code, as a git tree. Other new files may be anybody's data.

    It is made with a copy of the index: the user's own stays as it is. (`git stash create` fails where the index is older than a file
    that has not changed.)
    """
    index = repo / git(repo, "rev-parse", "--git-path", "index", or_else="no index")
    (repo / paths.RETRAIN_WORK).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=repo / paths.RETRAIN_WORK, prefix="index.") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if index.is_file():
            shutil.copyfile(index, env["GIT_INDEX_FILE"])
        else:
            git(repo, "read-tree", "HEAD", or_else="its files cannot be listed", env=env)
        _look_at_all(repo, env)
        top = Path(git(repo, "rev-parse", "--show-toplevel", or_else="no worktree"))
        git(top, "add", "-u", or_else="its changes cannot be read", env=env)
        for code in ("pipeline", "stages"):
            if (repo / code).is_dir():
                git(repo, "add", "-A", "--", code, or_else="its new files cannot be read", env=env)
        return git(top, "write-tree", or_else="its changes cannot be read", env=env)


def _look_at_all(repo: Path, env: Mapping[str, str]) -> None:
    """Let git see changes of files that a person told it to pass over (`--skip-worktree`, `--assume-unchanged`), such as params.

    Files that are not there, of a sparse checkout, stay as they were committed. Raises UserError where a merge has left conflicts.
    """
    kinds = git(repo, "ls-files", "-v", "-z", "--full-name", ":/", or_else="its files cannot be listed", env=env).split("\0")
    top = Path(git(repo, "rev-parse", "--show-toplevel", or_else="no worktree"))
    if conflicts := sorted({name for kind, _, name in (entry.partition(" ") for entry in kinds) if kind in ("M", "m")}):
        raise UserError(f"{repo}: {conflicts[0]} has a conflict of a merge; resolve it, git add {conflicts[0]}, then run this again")
    passed = [name for kind, _, name in (entry.partition(" ") for entry in kinds) if kind != "H" and (top / name).is_file()]
    for kept in ("--no-skip-worktree", "--no-assume-unchanged"):
        given = "".join(f"{name}\0" for name in passed)
        git(top, "update-index", kept, "-z", "--stdin", or_else="its changes cannot be read", env=env, given=given)


def _fill(repo: Path, top: Path, folder: Path, base: str, tree: str) -> None:
    """Bring the worktree `top`, made here if need be, to `tree`; `folder` is the project in it. Raises UserError when it is damaged."""
    known = git(repo, "worktree", "list", "--porcelain", or_else="worktrees cannot be listed").splitlines()
    if not (top / ".git").exists() or f"worktree {top}" not in known:
        shutil.rmtree(top, ignore_errors=True)
        git(repo, "worktree", "add", "-q", "--force", "--detach", "--no-checkout", str(top), base, or_else=f"no worktree in {top}")
    with suppress(FileNotFoundError):
        (folder / paths.CHECKPOINTS).unlink()  # our link: `git clean` would follow nothing, but stop at it
    git(top, "update-ref", "--no-deref", "HEAD", base, or_else="the worktree is damaged")
    git(top, "read-tree", "-u", "--reset", tree, or_else="the worktree is damaged")
    git(top, "clean", "-fdq", or_else="the worktree cannot be cleaned")


def _share_settings(repo: Path, folder: Path) -> None:
    """Give the worktree's DVC the project's cache and its local settings (remotes, credentials); relative paths keep their place."""
    from dvc.config import Config, ConfigError, merge
    from dvc.config_schema import RelPath

    (folder / ".dvc/config.local").unlink(missing_ok=True)  # of an earlier retraining, and perhaps damaged
    try:
        theirs = Config(str(repo / ".dvc"))
        settings = theirs.read("repo")
        merge(settings, theirs.read("local"))
    except ConfigError as error:
        raise UserError(f"{repo / '.dvc'}: DVC's settings (config, config.local) cannot be read: {error}") from None
    # One that the person's or the machine's settings name is the project's cache as well. The project's own is written relative to the
    # worktree: what its path holds (ü, a line break, %(x)s) may be nothing that DVC can write into its settings, or read there.
    settings["cache"].setdefault("dir", theirs["cache"].get("dir") or RelPath(repo / ".dvc/cache"))
    ours = Config(str(folder / ".dvc"))
    try:
        with ours.edit("local") as local:
            local.clear()
            local.update(settings)
    except UnicodeEncodeError as error:
        reason = f"DVC writes no {error.object[error.start : error.end]!r} into its settings"
        raise UserError(f"{repo / '.dvc'}: {reason}, but config or config.local hold it; name a link there instead") from None


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
        say(f"ended {len(left)} processes that an earlier retraining had left running ({time.monotonic() - began:.0f} s)")
