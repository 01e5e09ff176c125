"""The worktree that retrainings work in: the user's files as they stand, whatever an earlier retraining left there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.config import Config

from pipeline import dvc_cache
from pipeline.errors import UserError
from pipeline.retraining import workspace


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one committed file, changed since."""
    folder = tmp_path / "repo"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").touch()
    (folder / "params.yaml").write_text("images: 8\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "params.yaml").write_text("images: 16\n")
    return folder


def test_new_code_is_part_of_it_and_other_new_files_are_not(repo: Path) -> None:
    index = (repo / ".git/index").read_bytes()
    (repo / ".gitignore").write_text("__pycache__/\n")
    for name in ("pipeline/sources/hospital.py", "pipeline/__pycache__/old.pyc", "stages/extra.py", "patient.nii.gz"):
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).touch()
    folder = workspace.prepare(repo).folder
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith((".dvc/", ".git"))} == {
        "params.yaml",
        "pipeline/sources/hospital.py",
        "stages/extra.py",
    }
    assert (repo / ".git/index").read_bytes() == index


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_changes_that_git_was_told_to_pass_over_are_part_of_it(repo: Path, flag: str) -> None:
    """So a person keeps the params of one machine out of commits; the retraining took those of the commit without a word."""
    subprocess.run(["git", "update-index", flag, "params.yaml"], cwd=repo, check=True)
    assert (workspace.prepare(repo).folder / "params.yaml").read_text() == "images: 16\n"
    listed = subprocess.run(["git", "ls-files", "-v", "params.yaml"], cwd=repo, capture_output=True, text=True, check=True).stdout
    assert listed[0] == ("S" if flag == "--skip-worktree" else "h")  # the user's own index stays as it is


def test_what_a_sparse_checkout_left_out_is_there(repo: Path) -> None:
    subprocess.run(["git", "update-index", "--skip-worktree", "params.yaml"], cwd=repo, check=True)
    (repo / "params.yaml").unlink()
    assert (workspace.prepare(repo).folder / "params.yaml").read_text() == "images: 8\n"


def test_a_merge_with_conflicts_is_one_line(repo: Path) -> None:
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run([*git, "commit", "-qam", "16"], cwd=repo, check=True)
    subprocess.run([*git, "checkout", "-qb", "other", "HEAD~1"], cwd=repo, check=True)
    (repo / "params.yaml").write_text("images: 32\n")
    subprocess.run([*git, "commit", "-qam", "32"], cwd=repo, check=True)
    subprocess.run([*git, "merge", "-q", "-"], cwd=repo, check=False, capture_output=True)
    with pytest.raises(UserError, match=r"params\.yaml has a conflict of a merge; resolve it, git add params\.yaml"):
        workspace.prepare(repo)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "none": lambda folder, known: None,
    "a file changed, another left": lambda folder, known: [(folder / name).write_text("?") for name in ("params.yaml", "rest.txt")],
    "folder removed": lambda folder, known: subprocess.run(["rm", "-r", folder], check=True),
    "no longer a worktree": lambda folder, known: (folder / ".git").write_text("nonsense"),
    "index damaged": lambda folder, known: (known / "index").write_bytes(b"nonsense"),
    "lock of a killed git": lambda folder, known: (known / "index.lock").touch(),
    "DVC's settings removed": lambda folder, known: subprocess.run(["rm", "-r", folder / ".dvc"], check=True),
    "DVC's settings damaged": lambda folder, known: (folder / ".dvc/config.local").write_bytes(b"\xff["),
    "forgotten by git": lambda folder, known: subprocess.run(["rm", "-r", known], check=True),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_worktree_is_made_anew(repo: Path, damage: str) -> None:
    folder = workspace.prepare(repo).folder
    DAMAGES[damage](folder, repo / ".git/worktrees/workspace")
    again = workspace.prepare(repo)
    assert again.folder == folder
    assert (folder / "params.yaml").read_text() == "images: 16\n"
    assert not (folder / "rest.txt").exists()
    assert Config(str(folder / ".dvc"))["cache"]["dir"] == str(repo / ".dvc/cache")
    assert (repo / "params.yaml").read_text() == "images: 16\n"


def test_a_cache_that_the_persons_own_settings_name_is_the_worktrees_too(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `dvc config --global cache.dir` writes them, for a large disk or one cache of many projects."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(repo.parent))
    monkeypatch.chdir(repo)
    (repo.parent / "config").write_text(f"[cache]\n    dir = {repo.parent}/large\n")
    assert Config(str(workspace.prepare(repo).folder / ".dvc"))["cache"]["dir"] == f"{repo.parent}/large"
    assert dvc_cache.find_cache() == repo.parent / "large"


@pytest.mark.parametrize("name", ["Köln 日本", "zwei\nZeilen", "%(x)s, #1", 'it\'s "it"', "$HOME"])
def test_whatever_the_project_s_folder_is_called(repo: Path, name: str) -> None:
    """DVC writes its settings in ASCII and reads them with interpolation: with ü in the path every retraining ended in a traceback."""
    named = repo.rename(repo.with_name(name))
    work = workspace.prepare(named)
    assert Config(str(work.folder / ".dvc"))["cache"]["dir"] == str(named / ".dvc/cache")
    assert workspace.prepare(named).folder == work.folder


def test_a_cache_that_dvc_cannot_write_down_is_one_line(repo: Path) -> None:
    """A person may write it by an editor."""
    (repo / ".dvc/config").write_text(f"[cache]\n    dir = {repo.parent}/größe\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"\.dvc: DVC writes no 'ö.?' into its settings, but config or config\.local hold it"):
        workspace.prepare(repo)


def test_a_cache_whose_name_dvc_stops_at_is_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = repo.rename(repo.with_name("{a}"))
    monkeypatch.chdir(named)
    with pytest.raises(UserError, match=r"\{a\}/\.dvc/cache: DVC keeps no cache where the path holds \{ or \}; rename the folder"):
        dvc_cache.find_cache()


def test_settings_of_dvc_that_are_damaged_are_one_line(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo / ".dvc/config.local").write_bytes(b"\xff[")
    with pytest.raises(UserError, match=r"\.dvc: DVC's settings \(config, config\.local\) cannot be read"):
        workspace.prepare(repo)
    monkeypatch.chdir(repo)
    with pytest.raises(UserError, match=r"\.dvc: DVC's settings \(config, config\.local\) cannot be read"):
        dvc_cache.find_cache()


def test_who_holds_the_lock_may_be_unknown(repo: Path) -> None:
    with workspace.hold_lock(repo, "retrain-1"):
        for said, told in ((b"\xff\x00", "\N{REPLACEMENT CHARACTER}\x00"), (b"", "another process")):
            (repo / ".dvc/tmp/retrain/holder").write_bytes(said)
            with pytest.raises(workspace.Busy, match=f"^{told}$"), workspace.hold_lock(repo, "retrain-2"):
                pass
