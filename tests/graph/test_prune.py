"""What old retrainings left is removed; what stays can be brought back as before, and nothing goes while something runs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline import paths
from pipeline.errors import UserError
from pipeline.retraining import graph, history, prune, workspace
from pipeline.retraining.history import Record
from pipeline.tracking import cleanup
from tests.graph.projects import BIN, init_dvc

DVC_YAML = """\
stages:
  train:
    cmd: mkdir models && cp params.yaml models/weights
    params: [seed]
    outs: [models]
"""


@pytest.fixture(scope="module")
def five_retrainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with five retrainings by other seeds, of which the fourth was renamed; a copy of it lies beside it."""
    folder = tmp_path_factory.mktemp("prune") / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("seed: 0\n")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    init_dvc(folder)
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number in range(1, 6):
            _retrain(folder, number)
    subprocess.run([BIN / "dvc", "exp", "rename", "retrain-4", "mine"], cwd=folder, check=True)
    shutil.copytree(folder, folder.with_name("copy"), symlinks=True)
    return folder


@pytest.fixture
def repo(five_retrainings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That repository as it was, in its place, which its worktree knows; the champion is the first's. The MLflow store is left out."""
    shutil.rmtree(five_retrainings)
    shutil.copytree(five_retrainings.with_name("copy"), five_retrainings, symlinks=True)
    monkeypatch.chdir(five_retrainings)
    monkeypatch.setattr(cleanup, "aliased_weights", lambda: {"weights 1"})
    monkeypatch.setattr(cleanup, "unneeded_versions", lambda weights: [])
    return five_retrainings


def _retrain(repo: Path, number: int) -> None:
    work = workspace.prepare(repo)
    (work.folder / "params.yaml").write_text(f"seed: {number}\n")
    graph.run_stage("train", work.folder, lambda _: None)
    weights = {"ct-to-mr": f"weights {number}"}
    record = Record(f"retrain-{number}", f"2026-01-0{number}T00:00:00+00:00", "always", outcome="refused", weights=weights)
    record.commit = history.save(work, record, None)
    (history.write(repo, record) / "report.html").write_text("x" * 1000)
    (repo / paths.CHECKPOINTS / str(number)).mkdir(parents=True)
    (repo / paths.CHECKPOINTS / str(number) / "1.pt").write_bytes(bytes(1000))


def _experiments(repo: Path) -> set[str]:
    listed = subprocess.run([BIN / "dvc", "exp", "list", "--name-only", "-A"], cwd=repo, capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_only_the_unneeded_goes_and_the_rest_can_be_brought_back(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_size for file in (repo / ".dvc/cache/files").rglob("*") if file.is_file()}
    prune.prune(repo, 1, dry_run=True)
    said = capsys.readouterr().out
    assert "experiments: retrain-2, retrain-3\n" in said
    assert {file: file.stat().st_size for file in (repo / ".dvc/cache/files").rglob("*") if file.is_file()} == before
    assert _experiments(repo) == {"retrain-1", "retrain-2", "retrain-3", "mine", "retrain-5"}

    prune.prune(repo, 1, dry_run=False)
    assert _experiments(repo) == {"retrain-1", "mine", "retrain-5"}
    after = [file for file in (repo / ".dvc/cache/files").rglob("*") if file.is_file()]
    assert len(before) - len(after) == 4  # a folder and a file of two experiments
    assert not (repo / "reports/retrain/2/report.html").exists()
    assert (repo / "reports/retrain/1/report.html").exists()
    assert [record.name for record in history.all_records(repo)] == [f"retrain-{number}" for number in range(1, 6)]
    for name, seed in (("retrain-1", 1), ("mine", 4), ("retrain-5", 5)):
        work = workspace.prepare(repo, "reproduce", history.find(repo, name).commit)
        assert graph.checkout(work.folder) == []
        assert (work.folder / "models/weights").read_text() == f"seed: {seed}\n"


def test_checkpoints_of_finished_trainings_and_lost_uploads_go(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for number, name in enumerate(("2", "4", "5")):  # 3 was interrupted and can go on
        (repo / paths.CHECKPOINTS / name / paths.FINISHED).touch()
        os.utime(repo / paths.CHECKPOINTS / name / paths.FINISHED, (2e9 + number, 2e9 + number))
    lost, used = (tmp_path / f"{paths.SERVING}{name}" for name in ("lost", "used"))
    for folder in (lost, used):
        (folder / "in").mkdir(parents=True)
        (folder / "lock").touch()
    with FileLock(used / "lock"):
        prune.prune(repo, 5, dry_run=False)
    assert sorted(folder.name for folder in (repo / paths.CHECKPOINTS).iterdir()) == ["1", "3", "5"]
    assert [folder.name for folder in tmp_path.glob(f"{paths.SERVING}*")] == [used.name]


def test_nothing_goes_while_something_runs(repo: Path) -> None:
    with workspace.hold_lock(repo, "retrain-6"), pytest.raises(UserError, match="a retraining is at work: retrain-6"):
        prune.prune(repo, 1, dry_run=False)
    stage = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], cwd=repo, env={"DVC_STAGE": "train"})
    try:
        time.sleep(0.5)
        with pytest.raises(UserError, match=f"dvc is at work in this folder \\(process {stage.pid}\\)"):
            prune.prune(repo, 1, dry_run=False)
    finally:
        stage.kill()
        stage.wait()
    assert len(_experiments(repo)) == 5


def test_a_cache_that_others_may_use_is_left_alone(repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run([BIN / "dvc", "config", "--local", "cache.dir", tmp_path / "shared"], cwd=repo, check=True)
    (tmp_path / "shared/files/md5/00").mkdir(parents=True)
    (tmp_path / "shared/files/md5/00/0123456789abcdef0123456789abcd").write_text(json.dumps({}))
    prune.prune(repo, 1, dry_run=False)
    assert "may serve others: left alone" in capsys.readouterr().out
    assert (tmp_path / "shared/files/md5/00/0123456789abcdef0123456789abcd").exists()
