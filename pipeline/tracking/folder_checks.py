"""What can be wrong outside of MLflow: DVC's cache and the outputs of the graph, records of retrainings, the worktree, locks."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import paths
from pipeline.atomic import new_file
from pipeline.dvc_cache import find_cache
from pipeline.errors import UserError
from pipeline.params import load as load_params
from pipeline.privacy import pseudonym
from pipeline.processes import ask_git, environment

if TYPE_CHECKING:
    from dvc.output import Output


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what a person can do about it, and what `--fix` calls to mend it; None where only a person can."""

    problem: str
    remedy: str = "run ctmr doctor --fix"
    mend: Callable[[], object] | None = None


def knobs() -> Iterator[Finding]:
    """params.yaml, as every stage reads it."""
    try:
        load_params()
    except UserError as error:
        yield Finding(str(error), f"git diff {paths.PARAMS} shows what was changed")


def salt() -> Iterator[Finding]:
    """The salt that patients are hidden by: one that was emptied would let anybody test a guess."""
    if (paths.home() / paths.SALT).is_file():
        try:
            pseudonym("doctor")
        except UserError as error:
            yield Finding(str(error), "restore it from a backup: with another one the same patients get other keys")


def lock_file() -> Iterator[Finding]:
    """dvc.lock: DVC writes it in place, and no command of DVC works with the half that a kill or a full disk leaves."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    file = paths.DVC_LOCK
    if not file.exists():
        return
    try:
        load(str(file), COMPILED_LOCKFILE_SCHEMA)
    except (DvcException, IsADirectoryError):
        remedy = "ctmr doctor --fix puts it aside; dvc repro then brings back what DVC's cache has, or git checkout dvc.lock yours"
        yield Finding(f"{file}: damaged", remedy, partial(file.rename, file.with_name(f"{file.name}.damaged")))


def cache() -> Iterator[Finding]:
    """DVC's cache of the current lock against its digests: DVC trusts what lies there, and gives out a flipped byte as data."""
    find_cache()  # raises where DVC cannot use it
    for output in _outputs():
        if output.hash_info.isdir and not Path(output.cache.oid_to_path(output.hash_info.value)).is_file():  # nor can its files be told
            if output.exists and not output.changed_checksum():
                yield Finding(f"{_name(Path(output.fs_path))}: not in DVC's cache", mend=output.commit)
            continue
        for digest, relative in _objects(output):
            copy, in_use = Path(output.cache.oid_to_path(digest)), Path(output.fs_path) / relative
            name, is_list = _name(in_use), digest.endswith(".dir")
            whole = not is_list and in_use.is_file() and _md5(in_use) == digest
            if not copy.is_file():
                if whole:
                    yield Finding(f"{name}: not in DVC's cache", mend=partial(_keep, in_use, copy))
            elif _md5(copy) != digest.removesuffix(".dir"):
                what = "list of the files in" if is_list else "copy of"
                told = "replaces it by the whole file in use" if whole else "removes it; then dvc pull, or dvc repro makes it again"
                mend = partial(_keep, in_use, copy) if whole else copy.unlink
                yield Finding(f"DVC's {what} {name} was altered in its cache ({copy})", f"ctmr doctor --fix {told}", mend)


def outputs() -> Iterator[Finding]:
    """Files of the graph that are there, but not as the last run left them: cut off, or changed by hand."""
    for output in _outputs():
        if output.exists and output.changed_checksum():
            name = _name(Path(output.fs_path))
            remedy = f"dvc checkout {name} restores it, dvc repro makes it again"
            yield Finding(f"{name} is not what the last run of its stage left", remedy)


def closed_places() -> Iterator[Finding]:
    """Outputs and DVC's own folders that the owner of the project may not write in: of a dvc that ran once by root, or in a container."""
    home = paths.home()
    if not os.access(home, os.W_OK):
        return  # somebody else's project, which may be meant to be read
    made = (Path(output.fs_path) for output in _outputs() if output.exists)
    folders = {folder for out in made for folder in ([out, *map(Path, _folders_in(out))] if out.is_dir() else [out.parent])}
    own = {place for top in (home / ".dvc/tmp", find_cache() / "files/md5") for place in (top, *top.glob("*")) if place.exists()}
    if closed := sorted(place for place in folders | own if not os.access(place, os.W_OK)):
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        remedy = f"give them back to their user: sudo chown -R {os.getuid()} {shlex.quote(str(home))}"
        yield Finding(f"{_name(closed[0])}{more}: may only be read here, and dvc repro wants to write", remedy)


def records() -> Iterator[Finding]:
    """Records of retrainings, and what retraining remembers between two looks at the data."""
    kept = [*sorted(paths.RETRAIN_REPORT.glob("*/record.json")), *sorted((paths.home() / paths.RETRAIN_WORK).glob("*.json"))]
    for file in kept:
        if not _is_object(file):
            aside = file.with_name(f"{file.name}.damaged")
            yield Finding(f"{file}: damaged", "ctmr doctor --fix puts it aside", partial(file.rename, aside))


def locks() -> Iterator[Finding]:
    """DVC's record of who reads and writes what, here and in the worktree of retraining: a damaged one stops every command of DVC."""
    home = paths.home()
    for folder in (home, home / paths.RETRAIN_WORK / "workspace"):
        file = folder / ".dvc/tmp/rwlock"
        if file.is_file() and not _is_object(file):
            yield Finding(f"{file}: damaged", "ctmr doctor --fix removes it", file.unlink)


def repository() -> Iterator[Finding]:
    """The git repository of the project, where it is in one: whether git can read its index and its last commit."""
    home = paths.home()
    if any((folder / ".git").exists() for folder in (home, *home.parents)):
        command = ["git", "status", "--porcelain", "--untracked-files=no"]
        ended = subprocess.run(command, cwd=home, env=environment(), capture_output=True, text=True, errors="replace", check=False)
        if ended.returncode:
            reason = " ".join(ended.stderr.split())
            yield Finding(f"git cannot read the repository of {home}: {reason}", "git fsck says more; retraining needs it")


def worktree() -> Iterator[Finding]:
    """The worktree that retraining works in: whether git still knows it."""
    folder = paths.home() / paths.RETRAIN_WORK / "workspace"
    if not folder.is_dir():
        return
    if Path(ask_git("rev-parse", "--show-toplevel", folder=folder)).resolve() != folder.resolve():
        remedy = "run ctmr doctor --fix; retraining makes it anew"
        yield Finding(f"{folder}: no git worktree any more", remedy, partial(shutil.rmtree, folder))


ALL: tuple[Callable[[], Iterator[Finding]], ...] = (
    knobs,
    salt,
    lock_file,
    cache,
    outputs,
    closed_places,
    records,
    locks,
    repository,
    worktree,
)


def _outputs() -> "Iterator[Output]":
    """The cached outputs of the graph whose digests dvc.lock has; none where that is not. Raises UserError."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    if not paths.DVC_LOCK.is_file():
        return
    try:
        with Repo(".") as repo:
            for output in repo.index.outs:
                if output.use_cache and output.hash_info and output.hash_info.value:
                    yield output
    except NotDvcRepoError:
        raise UserError(
            f"{paths.DVC_LOCK} is here, but no .dvc; git checkout .dvc brings its settings back, dvc init makes new ones"
        ) from None
    except DvcException as error:
        raise UserError(f"DVC cannot read the graph: {error}") from None


def _objects(output: "Output") -> Iterator[tuple[str, str]]:
    """(digest, path below the output) of every file that DVC keeps of `output`; of a folder its list first, whose digest ends in .dir."""
    digest = str(output.hash_info.value)
    yield digest, "."
    if not digest.endswith(".dir"):
        return
    listed = Path(output.cache.oid_to_path(digest))
    if listed.is_file():
        content = listed.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() == digest.removesuffix(".dir"):
            yield from ((entry["md5"], entry["relpath"]) for entry in json.loads(content))


def _folders_in(top: Path) -> Iterator[str]:
    return (f"{folder}/{name}" for folder, names, _ in os.walk(top) for name in names)


def _md5(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _keep(whole: Path, copy: Path) -> None:
    """Put a whole file into DVC's cache, read-only as DVC keeps it."""
    copy.unlink(missing_ok=True)  # read-only
    with new_file(copy) as beside:
        shutil.copyfile(whole, beside)
        beside.chmod(0o444)


def _name(place: Path) -> str:
    """Relative to the project where it lies there."""
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)


def _is_object(file: Path) -> bool:
    """Whether a file holds a JSON object."""
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except (ValueError, RecursionError):
        return False
