"""What git may be: absent, without a commit, of another owner, or a larger repository of which the project is one folder."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.retraining import flow, graph, history, prune, schedule, workspace
from pipeline.retraining.history import Record
from tests.graph.projects import BIN

COMMIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start")
FOREIGN = "GIT_TEST_ASSUME_DIFFERENT_OWNER"  # git's own switch for its tests: every repository counts as another user's
COMMANDS: dict[str, Callable[[Path], object]] = {
    "ctmr history": history.show_history,
    "ctmr prune": lambda repo: prune.prune(repo, 3, dry_run=True),
    "ctmr retrain": flow.retrain_here,
    "ctmr schedule": lambda repo: schedule.serve_schedule(repo, "0 3 * * 1", "UTC", 4200),
}


def run(folder: Path, *command: str | Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def make_project(folder: Path) -> None:
    """A graph of one stage, without git and DVC."""
    folder.mkdir(parents=True)
    (folder / "given").write_text("twelve bytes")
    (folder / "params.yaml").write_text("factor: 2\n")
    (folder / "dvc.yaml").write_text("stages:\n  copy:\n    cmd: cp given copied\n    deps: [given]\n    outs: [copied]\n")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("what", "said"), [("none", "not a git repo"), ("empty", "no such commit"), ("foreign", "dubious ownership")])
def test_a_repository_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, said: str, command: str
) -> None:
    repo = tmp_path / "project"
    make_project(repo)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    if what != "none":
        run(repo, "git", "init", "-q")
    if what == "foreign":
        run(repo, "git", "add", "-A")
        run(repo, *COMMIT)
        monkeypatch.setenv(FOREIGN, "1")
    with pytest.raises(UserError, match=said) as refusal:
        COMMANDS[command](repo)
    assert str(repo) in str(refusal.value)
    assert "a git repository with a commit" in str(refusal.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_repository_that_dvc_cannot_read_is_one_line(tmp_path: Path, command: str) -> None:
    """It was found after hours of training, when the experiment was to be recorded."""
    repo = tmp_path / "project"
    make_project(repo)
    run(repo, "git", "init", "-q", "--object-format=sha256")
    run(repo, "git", "add", "-A")
    run(repo, *COMMIT)
    with pytest.raises(UserError, match=rf"^{repo}: DVC cannot read this git repository \(.*sha256.*\); use one as"):
        COMMANDS[command](repo)


def test_a_file_that_was_only_touched_is_no_change_and_no_hindrance(tmp_path: Path) -> None:
    """git's index knows times of files; where one is newer with the same content, `git stash create` fails."""
    repo = tmp_path / "project"
    make_project(repo)
    run(repo, "git", "init", "-q")
    run(repo, BIN / "dvc", "init", "-q")
    run(repo, "git", "add", "-A")
    run(repo, *COMMIT)
    index = (repo / ".git/index").read_bytes()
    for name in ("given", "params.yaml", ".dvc/config"):
        os.utime(repo / name, (4e9, 4e9))
    work = workspace.prepare(repo)
    assert (work.folder / "given").read_text() == "twelve bytes"
    (repo / "given").write_text("changed")
    assert (workspace.prepare(repo).folder / "given").read_text() == "changed"
    assert (repo / ".git/index").read_bytes() == index


def test_a_project_may_be_a_folder_of_a_larger_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`dvc init --subdir`: a stage runs in the worktree, the retraining is kept, found again and gone on from."""
    repo = tmp_path / "monorepo/projects/heads"
    make_project(repo)
    (tmp_path / "monorepo/other.txt").write_text("of others")
    run(tmp_path / "monorepo", "git", "init", "-q")
    run(repo, BIN / "dvc", "init", "-q", "--subdir")
    run(tmp_path / "monorepo", "git", "add", "-A")
    run(repo, *COMMIT)
    (repo / "given").write_text("changed, not committed")

    work = workspace.prepare(repo)
    record = Record("retrain-1", "2026-01-01T00:00:00+00:00", "always", outcome="refused", user_lock=history.continue_from(work))
    assert graph.run_stage("copy", work.folder, print).outcome == "ran"
    assert (work.folder / "copied").read_text() == "changed, not committed"
    record.commit = history.save(work, record, None)

    assert history.find(repo, "retrain-1").commit == record.commit
    history.show_history(repo)
    assert "retrain-1" in capsys.readouterr().out
    again = workspace.prepare(repo)
    history.continue_from(again)
    assert graph.unchanged_stages(again.folder) == ["copy"]
    assert workspace.left_behind(repo, again.base) == again
    kept = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", record.commit], cwd=repo, capture_output=True, text=True, check=True
    ).stdout
    assert "dvc.lock" in kept.split()
    assert not (repo / "dvc.lock").exists()
    assert not (repo / "copied").exists()
