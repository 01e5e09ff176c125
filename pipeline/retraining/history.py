"""What retrainings did: each one a DVC experiment (a commit with its dvc.lock and params.yaml) whose message holds its record.

A retraining that did not get as far has a record in reports/retrain only.
"""

import hashlib
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline import paths, privacy
from pipeline.atomic import write_json
from pipeline.domain import DIRECTIONS, MODALITIES, Interval, error_score
from pipeline.errors import UserError, mask_credentials
from pipeline.retraining.workspace import Workspace, check_repository, git
from pipeline.tables import print_table

_HEADING = "Retraining record:"
RECORD = "record.json"


@dataclass
class Record:
    """One retraining. `outcome`: promoted, refused, repeated, no change, failed or cancelled.

    `news`: what looking for new data gave. `source` and `old_source`: source.json of the data it used, and of that before. `fit`: how many
    images are fit for use, and why others are not. `split`: slices of each part. `promoted`: models that this one made champion.
    `commit`, `experiment`: where DVC keeps it, and under which name, which a person may have changed.
    `registering`: an intent, written before register begins, with the digests of the `champions` then and of the `weights` to register, by
    model. Where it is still set and no retraining is at work, nobody has seen what became of it.
    """

    name: str
    began: str
    mode: str
    outcome: str = "cancelled"
    ended: str = ""
    base: str = ""
    user_lock: str = ""
    news: str = ""
    source: dict[str, Any] = field(default_factory=dict)
    old_source: dict[str, Any] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    fit: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    registering: bool = False
    champions: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    promoted: list[str] = field(default_factory=list)
    decisions: dict[str, dict[str, Any]] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    last_lines: list[str] = field(default_factory=list)
    commit: str = ""
    experiment: str = ""


def write(repo: Path, record: Record) -> Path:
    """Keep the record in reports/retrain; gives the folder for it and what belongs to it. The summary is the .md file beside that."""
    folder = folder_of(repo, record)
    write_json(folder / RECORD, asdict(record))
    return folder


def folder_of(repo: Path, record: Record) -> Path:
    """Where its record lies, and copies of its report."""
    return repo / paths.RETRAIN_REPORT / record.name.removeprefix("retrain-")


def save(workspace: Workspace, record: Record, branch: str | None) -> str:
    """Commit the workspace as DVC experiment `record.name`, and on `branch` as well when one is named; gives the commit.

    `dvc exp save -n` was tried. What it is doing it keeps in refs (refs/exps/exec) that all worktrees of a repository share, and it removes
    them when done: a `dvc exp run` at work in the user's folder then failed at its end, its result lost. So git makes the commit here,
    under the name that DVC gives experiments; `dvc exp` commands find it. `dvc exp branch` was tried for `branch`: it only makes new ones.

    Raises UserError when `branch` is the one that the user works on.
    """
    from dvc.repo.experiments.refs import ExpRefInfo

    folder, base = workspace.folder, workspace.base
    git(folder, "add", "-u", ":/", or_else="its changes cannot be recorded")
    git(folder, "add", "-f", str(paths.DVC_LOCK), or_else="dvc.lock cannot be recorded")
    tree = git(folder, "write-tree", or_else="its state cannot be recorded")
    title = f"{record.name}: {describe(record.source)}, {record.outcome}"
    message = f"{title}\n\n{_HEADING}\n{json.dumps(asdict(record), indent=1, ensure_ascii=False)}"
    commit = _commit(folder, tree, base, message)
    git(folder, "update-ref", str(ExpRefInfo(base, record.name)), commit, or_else="no experiment could be recorded")
    if branch:
        check_branch(workspace.repo, branch)
        exists = git(folder, "branch", "--list", branch, or_else="branches cannot be listed")
        parent = git(folder, "rev-parse", f"refs/heads/{branch}", or_else="") if exists else base
        onto = _commit(folder, tree, parent, message)
        git(folder, "update-ref", f"refs/heads/{branch}", onto, or_else=f"branch {branch} cannot be moved")
    return commit


def check_branch(repo: Path, branch: str) -> None:
    """Raises UserError when `branch` cannot be moved, or is checked out: moving it would make the user's files look changed."""
    git(repo, "check-ref-format", "--branch", branch, or_else=f"'{branch}' is no name for a branch")
    if f"branch refs/heads/{branch}\n" in git(repo, "worktree", "list", "--porcelain", or_else="worktrees cannot be listed") + "\n":
        raise UserError(f"branch {branch} is checked out; name another for retrainings, such as retrained")
    head = git(repo, "rev-parse", "HEAD", or_else="no commit")
    tried = f"start\nupdate refs/heads/{branch} {head}\nprepare\nabort\n"  # as `save` will, which comes after hours of training
    git(repo, "update-ref", "--stdin", or_else=f"branch {branch} cannot be moved", given=tried)


def all_records(repo: Path) -> list[Record]:
    """Every retraining that is known here, the oldest first. A record that is damaged is passed over, and said so.

    Raises UserError where git does not know the project.
    """
    from dvc.repo.experiments.utils import exp_refs
    from dvc.scm import SCM

    check_repository(repo)
    records = {record.name: record for record in _reports(repo)}
    scm = SCM(str(repo), search_parent_directories=True)
    try:
        for experiment in exp_refs(scm):
            commit = scm.get_ref(str(experiment))
            message = scm.resolve_commit(commit).message
            if _HEADING in message and (record := _parse(message.partition(_HEADING)[2], f"experiment {experiment.name}")):
                record.commit, record.experiment = commit, experiment.name
                records[record.name] = record
    finally:
        scm.close()
    return sorted(records.values(), key=lambda record: (record.began, record.name))


def interrupted(repo: Path) -> list[Record]:
    """Retrainings that ended between the intent to register and its end. To be asked by the one that holds the lock."""
    return [record for record in _reports(repo) if record.registering]


def find(repo: Path, name: str) -> Record:
    """The retraining `name`, which ended with models. Raises UserError when there is none."""
    known = [record for record in all_records(repo) if record.commit]
    for record in known:
        if name in (record.name, record.experiment):
            return record
    names = ", ".join(record.experiment for record in known[-5:]) or "none yet"
    raise UserError(f"retraining {name}: not among those with models ({names}); ctmr history lists them")


def continue_from(workspace: Workspace) -> str:
    """Put the dvc.lock to go on from into the workspace; gives the digest of the user's own.

    It is that of the last retraining, unless the user's own has changed since that one began: then it is the newer one.
    """
    own = workspace.repo / paths.DVC_LOCK
    content = own.read_bytes() if own.is_file() else b""
    digest = hashlib.sha256(content).hexdigest()[:16]
    last = next((record for record in reversed(all_records(workspace.repo)) if record.commit), None)
    target = workspace.folder / paths.DVC_LOCK
    if last is not None and last.user_lock == digest:
        text = git(workspace.repo, "show", f"{last.commit}:./{paths.DVC_LOCK}", or_else="dvc.lock is lost")
        target.write_text(text + "\n", encoding="utf-8")
    elif content:
        target.write_bytes(content)
    else:
        target.unlink(missing_ok=True)
    return digest


def hide(record: Record, folder: str | None) -> None:
    """Take the name of the data's `folder` and credentials out of all that the record says."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return hide_folder(mask_credentials(value), folder)
        if isinstance(value, list):
            return [clean(item) for item in value]
        return {key: clean(item) for key, item in value.items()} if isinstance(value, dict) else value

    for name, value in asdict(record).items():
        setattr(record, name, clean(value))


def hide_folder(text: str, folder: str | None) -> str:
    """`text` with a keyed hash for the name of the data's folder, which may tell of a patient; MLflow has the same one."""
    if not folder:
        return text
    places = {folder, str(paths.as_given(folder)), str(paths.as_given(folder).resolve())}
    names = "|".join(re.escape(place) for place in sorted(places, key=len, reverse=True) if "/" in place)
    word = rf"(?<=data\.folder=){re.escape(folder)}|(?<=data\.folder = ){re.escape(folder)}|^{re.escape(folder)}(?= )"
    try:
        hidden = f"p-{privacy.pseudonym('folder', folder)}"
    except UserError:  # no salt yet: nothing was downloaded
        hidden = "***"
    return re.sub("|".join(filter(None, (names, word))), hidden, text)


def describe(source: dict[str, Any]) -> str:
    """The data of a retraining in a phrase."""
    return str(source.get("title", "no data"))


def counts(source: dict[str, Any]) -> str:
    """How many images its source.json says it has."""
    return " and ".join(f"{source.get('counts', {}).get(name, 0)} {name.upper()}" for name in MODALITIES)


def show_history(repo: Path) -> None:
    """Print the retrainings that did something, or failed at it (data, error, decision), and when one last looked in vain."""
    errors = [f"{direction.arrow.replace(' ', '')} error" for direction in DIRECTIONS]
    rows = []
    known = all_records(repo)
    records = [record for record in known if record.outcome != "no change"]
    for record in records:
        promoted = ", ".join(record.promoted)
        data = f"{describe(record.source)}: {counts(record.source)}" if record.source else "–"
        rows.append((record.name, record.outcome, data, *(_error(record, direction) for direction in DIRECTIONS), promoted or "–"))
    if rows:
        print_table(("retraining", "outcome", "data", *errors, "promoted"), rows)
    else:
        print("no retrainings yet; ctmr retrain runs one")
    if looked := [record for record in known if record.outcome == "no change"]:
        print(f"looked and found nothing new: {len(looked)} times, the last one {looked[-1].began[:16].replace('T', ' ')}")


def _error(record: Record, direction: str) -> str:
    scores = record.scores.get(direction, {})
    name = error_score(scores)
    return str(Interval.from_scores(scores, name)) if name in scores else "–"


def _commit(folder: Path, tree: str, parent: str, message: str) -> str:
    return git(folder, "commit-tree", tree, "-p", parent, "-m", message, or_else="no commit could be made", env=_person(folder))


def _person(folder: Path) -> dict[str, str]:
    """Who commits, for git: nothing where it knows the user's name and address, else ctmr."""
    roles = ("AUTHOR", "COMMITTER")
    try:
        for role in roles:
            git(folder, "-c", "user.useConfigOnly=true", "var", f"GIT_{role}_IDENT", or_else="nobody is named")
    except UserError:
        return {f"GIT_{role}_{what}": value for role in roles for what, value in (("NAME", "ctmr"), ("EMAIL", "ctmr@localhost"))}
    return {}


def _reports(repo: Path) -> list[Record]:
    files = sorted((repo / paths.RETRAIN_REPORT).glob(f"*/{RECORD}"))
    return [record for file in files if (record := _parse(file.read_text(encoding="utf-8", errors="replace"), str(file)))]


def _parse(text: str, place: str) -> Record | None:
    try:
        return TypeAdapter(Record).validate_json(text, strict=True)
    except ValidationError:
        print(f"warning: {place}: a damaged record of a retraining, passed over", file=sys.stderr, flush=True)
        return None
