"""Records of retrainings: kept whole or passed over, with nothing in them that tells of a patient; an interrupted one is found again."""

import json
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.processes import hold_lock
from pipeline.retraining import graph, history, steps, summary, tell, workspace
from pipeline.retraining.history import Record
from pipeline.tracking import registry

MODEL = "ct-to-mr"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one commit, no Prefect, and a salt."""
    folder = tmp_path / "project"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").touch()
    (folder / "params.yaml").touch()
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / ".salt").write_text("0123456789abcdef")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


def _record(name: str, **facts: Any) -> Record:
    return Record(f"retrain-{name}", f"2026-01-0{name}T00:00:00+00:00", "always", **facts)


WRONG = {"began": None, "promoted": None, "outcome": 3, "source": "x", "stages": [1], "scores": {"ct_to_mr": {"mae": "x"}}, "weights": []}


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", "[]", "null", '{"name": "retrain-2"}', "\x00\x00", "[" * 200_000),
        *(json.dumps({"name": "retrain-2", "began": "", "mode": "always", name: value}) for name, value in WRONG.items()),
    ],
)
def test_a_damaged_record_is_passed_over_and_said(repo: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    history.write(repo, _record("1"))
    place = history.write(repo, _record("2")) / "record.json"
    place.write_text(damage)
    assert [record.name for record in history.all_records(repo)] == ["retrain-1"]
    assert f"warning: {place}: a damaged record" in capsys.readouterr().err
    history.show_history(repo)


def test_a_retraining_is_an_experiment_that_carries_its_record(repo: Path) -> None:
    work = workspace.prepare(repo)
    (work.folder / "dvc.lock").write_text("schema: '2.0'\n")
    record = _record("1", outcome="refused", notes=["a note"])
    record.commit = history.save(work, record, "retrained")
    again = _record("2", outcome="refused")
    history.save(work, again, "retrained")
    record.experiment = "retrain-1"
    assert history.find(repo, "retrain-1") == record
    assert [known.name for known in history.all_records(repo)] == ["retrain-1", "retrain-2"]
    log = subprocess.run(["git", "log", "--format=%s", "retrained"], cwd=repo, capture_output=True, text=True, check=True).stdout
    assert [line.split(":")[0] for line in log.splitlines()] == ["retrain-2", "retrain-1", "start"]
    (repo / "dvc.lock").unlink(missing_ok=True)
    assert history.continue_from(work)


def test_in_a_hook_of_git_the_users_index_stays_as_it_is(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git tells its hooks where they are, which every git below would believe."""
    monkeypatch.setenv("GIT_DIR", str(repo / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(repo / ".git/index"))
    before = (repo / ".git/index").read_bytes()
    work = workspace.prepare(repo)
    (work.folder / "dvc.lock").write_text("schema: '2.0'\n")
    history.save(work, _record("1"), None)
    assert (repo / ".git/index").read_bytes() == before


@pytest.mark.parametrize("known", ["user.name=", "user.email=", "user.useConfigOnly=true"])
def test_a_retraining_is_kept_whoever_git_takes_the_user_for(repo: Path, monkeypatch: pytest.MonkeyPatch, known: str) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    for setting in ("user.name=t", "user.email=t@example.org", known):
        subprocess.run(["git", "config", *setting.split("=")], cwd=repo, check=True)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "")
    work = workspace.prepare(repo)
    (work.folder / "dvc.lock").write_text("schema: '2.0'\n")
    assert history.save(work, _record("1"), None)


@pytest.mark.parametrize("branch", ["retrained", "HEAD", "@{-1}"])
def test_a_branch_that_cannot_be_moved_is_refused_before_the_training(repo: Path, branch: str) -> None:
    for command in (["branch", "retrained/mine"], ["checkout", "-q", "-b", "other"], ["checkout", "-q", "-"]):
        subprocess.run(["git", *command], cwd=repo, check=True)
    with pytest.raises(UserError, match="branch"):
        history.check_branch(repo, branch)
    history.check_branch(repo, "free")
    assert not subprocess.run(["git", "branch", "--list", "free"], cwd=repo, capture_output=True, check=True).stdout


def test_what_tells_of_a_patient_or_opens_a_door_is_hidden(repo: Path) -> None:
    folder = "/data/Smith_John"
    record = _record(
        "1",
        settings=[f"data.folder={folder}"],
        news=f"{folder} has changed",
        error="https://me:secret@host/x refuses",
        last_lines=[f"error: {folder}/a: bad"],
    )
    history.hide(record, folder)
    text = summary.markdown(record, []) + history.write(repo, record).joinpath("record.json").read_text() + summary.headline(record)
    assert "Smith" not in text
    assert "secret" not in text
    assert record.news.startswith("p-")
    assert record.last_lines == [f"error: {record.news.split()[0]}/a: bad"]
    once = record.news
    history.hide(record, folder)
    assert record.news == once


def test_a_folder_in_the_project_is_hidden_without_losing_the_word(repo: Path) -> None:
    record = _record("1", news="slices has changed", notes=["18 CT slices"], error="data.folder = slices: not found")
    history.hide(record, "slices")
    assert "slices" not in record.news + record.error
    assert record.notes == ["18 CT slices"]


@pytest.mark.parametrize(
    ("before", "now", "promoted", "outcome"),
    [("old", "new", [MODEL], "promoted"), ("old", "old", [], "lost"), ("old", "by hand", [], "lost"), ("new", "new", [], "lost")],
)
def test_what_became_of_an_interrupted_register_is_recorded_and_told(
    repo: Path, monkeypatch: pytest.MonkeyPatch, before: str, now: str, promoted: list[str], outcome: str
) -> None:
    work = workspace.prepare(repo)
    (work.folder / "dvc.lock").write_text("schema: '2.0'\n")
    lost = _record("1", base=work.base, registering=True, champions={MODEL: before}, weights={MODEL: "new"})
    history.write(repo, lost)
    told: list[Record] = []
    monkeypatch.setattr(registry, "champions", lambda: {MODEL: now})
    monkeypatch.setattr(tell, "publish", lambda repo, record, *_: (told.append(record), history.write(repo, record)))
    (sentence,) = steps.report_interrupted(repo, [])
    assert [(record.name, record.promoted, record.outcome) for record in told] == [("retrain-1", promoted, outcome)]
    assert ("became champion" in sentence) == bool(promoted)
    (kept,) = history.all_records(repo)
    assert (kept.promoted, kept.registering, bool(kept.commit)) == (promoted, False, True)
    assert (MODEL in summary.headline(kept)) == bool(promoted)
    assert steps.report_interrupted(repo, []) == []


def test_an_empty_folder_json_or_rwlock_does_not_outlive_the_next_retraining(repo: Path) -> None:
    work = workspace.prepare(repo)
    (work.folder / ".dvc/tmp").mkdir()
    (work.folder / ".dvc/tmp/rwlock").touch()
    workspace.prepare(repo)
    assert not (work.folder / ".dvc/tmp/rwlock").exists()


def test_a_worktree_that_dvc_cannot_read_is_made_anew_once(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = workspace.prepare(repo).folder / "left"
    record = _record("1")
    retraining = steps.Retraining(repo, record, None, timedelta(), {}, None)

    def run(times: int) -> None:
        left.parent.mkdir(exist_ok=True)
        assert not left.exists()
        left.touch()
        if len(record.notes) < times:
            raise graph.GraphUnreadable("rwlock: damaged")

    monkeypatch.setattr(steps.Retraining, "_run", lambda _: run(1))
    retraining.run()
    assert record.notes == ["The worktree was made anew: rwlock: damaged"]
    workspace.discard(repo)
    monkeypatch.setattr(steps.Retraining, "_run", lambda _: run(9))
    with pytest.raises(graph.GraphUnreadable):
        retraining.run()


def test_a_training_by_hand_is_seen(repo: Path) -> None:
    assert not workspace.is_training(repo)
    with hold_lock(repo / paths.TRAINING_LOCK, "training"):
        assert workspace.is_training(repo)
    assert not workspace.is_training(repo)
