"""`ctmr prune`: remove what old retrainings left, so that a machine that retrains for years keeps its disk.

What stays: the newest retrainings; each whose models bear an alias in the registry (champion, previous, best, ...); each that a person gave
another name (`dvc exp rename`) or put on a branch or under a tag. All of these can be reproduced afterwards as before. Records of the
others stay as well, they are small.
"""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipeline import paths
from pipeline.errors import UserError
from pipeline.processes import abandoned_folders
from pipeline.retraining import graph, history, workspace
from pipeline.retraining.history import Record
from pipeline.retraining.workspace import Busy, git
from pipeline.tracking import cleanup

if TYPE_CHECKING:
    from dvc.repo import Repo

PREFIX = "retrain-"


@dataclass
class Unneeded:
    """What is to be removed, and the bytes that it takes."""

    experiments: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    versions: list[Any] = field(default_factory=list)
    places: list[Path] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    model_bytes: int = 0
    place_bytes: int = 0
    object_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for each kind."""
        models = ", ".join(f"{version.name}/{version.version}" for version in self.versions) or "none"
        lines = [
            f"experiments: {', '.join(record.experiment for record in self.experiments) or 'none'}",
            f"registered versions without an alias, with runs that have no other: {models}, {_mebibytes(self.model_bytes)}",
            f"records of looks in vain: {len(self.records)}",
            f"checkpoints, copies of reports, what ctmr reproduce built, lost uploads: {len(self.places)}, {_mebibytes(self.place_bytes)}",
            f"objects in DVC's cache: {len(self.objects)}, {_mebibytes(self.object_bytes)}",
        ]
        return "\n".join([*lines, *self.notes])


def prune(repo: Path, keep: int, dry_run: bool) -> None:
    """Print what is unneeded besides the newest `keep` retrainings, and remove it unless `dry_run`.

    Raises UserError while a retraining, or a dvc in this folder, is at work.
    """
    if keep < 1:
        raise UserError(f"--keep {keep}: expected 1 or more")
    with _alone(repo):
        unneeded = find_unneeded(repo, keep)
        print(unneeded)
        if dry_run:
            print("nothing was removed; without --dry-run all of this is")
            return
        remove(repo, unneeded)
        print(f"removed; {_mebibytes(unneeded.model_bytes + unneeded.place_bytes + unneeded.object_bytes)} are free again")


def find_unneeded(repo: Path, keep: int) -> Unneeded:
    """All that prune would remove."""
    records = history.all_records(repo)
    with_models = [record for record in records if record.commit]
    aliased = cleanup.aliased_weights()
    kept = [
        record
        for number, record in enumerate(reversed(with_models))
        if number < keep or not record.experiment.startswith(PREFIX) or _weights(record) & aliased or _is_named(repo, record.commit)
    ]
    unneeded = Unneeded(experiments=[record for record in with_models if record not in kept])
    needed = {digest for record in kept for digest in _weights(record)}
    unneeded.versions = cleanup.unneeded_versions({digest for record in unneeded.experiments for digest in _weights(record)} - needed)
    unneeded.model_bytes = cleanup.artifact_bytes(unneeded.versions)
    unneeded.records = [record for record in records if record.outcome == "no change"][:-keep]
    oldest = min((record.began for record in kept), default="")
    unneeded.places = list(_places(repo, unneeded.experiments, oldest))
    unneeded.place_bytes = sum(_size(place) for place in unneeded.places)
    with graph.open_graph(repo) as dvc:
        if Path(dvc.cache.local_cache_dir).is_relative_to(repo):
            unneeded.objects, unneeded.object_bytes = _unneeded_objects(dvc, [record.commit for record in kept])
        else:
            unneeded.notes.append(f"DVC's cache {dvc.cache.local_cache_dir} lies outside of the project and may serve others: left alone")
    return unneeded


def remove(repo: Path, unneeded: Unneeded) -> None:
    """Remove it: names first, then what they stood for, so that nothing that is still named is ever missing."""
    with graph.open_graph(repo) as dvc:
        if names := [record.experiment for record in unneeded.experiments]:
            dvc.experiments.remove(exp_names=names)
        if unneeded.versions:
            cleanup.remove_versions(unneeded.versions)
        for record in unneeded.records:
            shutil.rmtree(history.folder_of(repo, record), ignore_errors=True)
            history.folder_of(repo, record).with_suffix(".md").unlink(missing_ok=True)
        for place in unneeded.places:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        odb = dvc.cache.local
        odb.fs.remove([odb.oid_to_path(digest) for digest in unneeded.objects])


@contextmanager
def _alone(repo: Path) -> Iterator[None]:
    """Hold the lock of retrainings; raises UserError while one, or a `dvc` in this folder, is at work."""
    try:
        with workspace.hold_lock(repo, "ctmr prune"):
            at_work = [process.pid for process in psutil.process_iter() if process.pid != os.getpid() and _works_in(process, repo)]
            if at_work:
                raise UserError(f"dvc is at work in this folder (process {at_work[0]}); wait for it, then run ctmr prune again")
            yield
    except Busy as other:
        raise UserError(f"a retraining is at work: {other}; wait for it, then run ctmr prune again") from None


def _works_in(process: psutil.Process, repo: Path) -> bool:
    """Whether it is a dvc, or a stage of one, in the project."""
    try:
        return Path(process.cwd()) == repo and (
            "DVC_STAGE" in process.environ() or any(Path(part).name == "dvc" for part in process.cmdline())
        )
    except (psutil.Error, OSError):
        return False


def _weights(record: Record) -> set[str]:
    return {str(decision["weights"]) for decision in record.decisions.values()} | set(record.weights.values())


def _is_named(repo: Path, commit: str) -> bool:
    """Whether a branch or tag leads to the commit."""
    return bool(git(repo, "for-each-ref", "--contains", commit, "refs/heads", "refs/tags", or_else="branches cannot be listed"))


def _places(repo: Path, gone: Collection[Record], oldest: str) -> Iterator[Path]:
    """What lies on the disk and nothing needs.

    Copies of reports of retrainings that go; what `ctmr reproduce` built; checkpoints of finished jobs but the last, whose outputs may not
    be recorded yet, and of jobs older than the oldest retraining that stays; uploads that a killed web page left.
    """
    for record in gone:
        yield from (file for file in history.folder_of(repo, record).glob("*") if file.name != history.RECORD)
    work = repo / paths.RETRAIN_WORK
    yield from (folder for name in ("reproduce", "reproduce.mlflow") if (folder := work / name).is_dir())
    yield from abandoned_folders(paths.SERVING)
    jobs = [folder for folder in (repo / paths.CHECKPOINTS).glob("*") if folder.is_dir() and folder.name != "start"]
    changed = {job: max((file.stat().st_mtime for file in job.iterdir()), default=0.0) for job in jobs}
    finished = sorted((job for job in jobs if (job / paths.FINISHED).is_file()), key=changed.__getitem__)
    began = datetime.fromisoformat(oldest).timestamp() if oldest else 0.0
    yield from (job for job in jobs if job in finished[:-1] or changed[job] < began)


def _unneeded_objects(dvc: "Repo", commits: list[str]) -> tuple[list[str], int]:
    """Digests of the objects in the cache, and their bytes, that nothing uses: the project as it stands, a branch, a tag, the `commits`.

    `dvc gc` was tried: it takes one --rev, or all experiments, but not some of them, and says how many objects would go, not their bytes.
    """
    from dvc_data.hashfile.tree import Tree

    odb = dvc.cache.local
    used: set[str] = set()
    for container in (
        dvc.used_objs(all_branches=True, all_tags=True, skip_failed=True),
        dvc.used_objs(revs=commits or None, skip_failed=True),
    ):
        for info in (info for infos in container.values() for info in infos):
            used.add(info.value)
            if info.isdir and odb.exists(info.value):
                used |= {entry.value for _, _, entry in Tree.load(odb, info)}
    unneeded = [digest for digest in odb.all() if digest not in used]
    return unneeded, sum(odb.fs.size(odb.oid_to_path(digest)) for digest in unneeded)


def _size(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
