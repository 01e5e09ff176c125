"""The doctor on the folder: DVC's files and cache, records, worktrees, params, git."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline import paths
from tests.tracking.doctor.damages import cut_off, examine, flip_a_byte, make_folder, only_problem


@pytest.fixture
def graph(project: Path) -> Path:
    """The file that the only stage of a graph made, which DVC's cache has as well."""
    from dvc.repo import Repo

    (project / "dvc.yaml").write_text(
        "stages:\n  split:\n    cmd: mkdir -p data && printf 0123456789 > data/split.parquet\n    outs: [data/split.parquet]\n"
    )
    with Repo.init(".", no_scm=True) as repo:
        repo.reproduce()
    assert examine() == []
    return project / paths.SPLIT


def cached(project: Path) -> Path:
    (file,) = (file for file in (project / ".dvc/cache").rglob("*") if file.is_file())
    return file


def test_a_flipped_byte_in_the_cache_is_found_and_replaced_by_the_file_in_use(project: Path, graph: Path) -> None:
    flip_a_byte(cached(project))
    assert "was altered in its cache" in only_problem().finding.problem
    assert examine(fix=True)[0].mended
    assert examine() == []
    assert cached(project).read_bytes() == b"0123456789"
    assert not cached(project).stat().st_mode & 0o222


def test_a_folder_in_the_place_of_dvc_s_lock_is_put_aside(project: Path, graph: Path) -> None:
    make_folder(paths.DVC_LOCK)
    assert only_problem().finding.problem == "dvc.lock: damaged"
    assert examine(fix=True)[0].mended
    assert examine() == []


def test_a_graph_whose_dvc_is_gone_is_named_once(project: Path, graph: Path) -> None:
    shutil.rmtree(project / ".dvc")
    assert only_problem().finding.problem.startswith("dvc.lock is here, but no .dvc; git checkout .dvc brings its settings back")


def test_a_folder_in_which_dvc_stops_is_named(project: Path, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `dvc repro` ended in a KeyError there, of a progress line that DVC makes with the name of its cache."""
    monkeypatch.chdir(project.rename(project.with_name("{a}")))
    problems = [examined.finding.problem for examined in examine(fix=True)]
    assert any("/{a}/.dvc/cache: DVC keeps no cache where the path holds { or }" in problem for problem in problems)


def test_a_flipped_byte_that_nothing_can_replace_is_removed(project: Path, graph: Path) -> None:
    flip_a_byte(cached(project))
    graph.unlink()
    assert examine(fix=True)[0].mended
    assert not [file for file in (project / ".dvc/cache").rglob("*") if file.is_file()]


@pytest.mark.parametrize("until", [b"schema", b": '2.0", b"th: data"])
def test_half_of_dvc_s_lock_is_put_aside_and_the_cache_brings_the_stages_back(project: Path, graph: Path, until: bytes) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    whole = paths.DVC_LOCK.read_bytes()
    paths.DVC_LOCK.write_bytes(whole[: whole.index(until)])
    with pytest.raises(DvcException), Repo() as repo:
        repo.reproduce()
    first, *others = examine()
    assert "dvc.lock: damaged" in str(first)
    assert others == [] or "cannot read the graph" in str(others[0])
    assert examine(fix=True)[0].mended
    assert examine() == []
    with Repo() as repo:
        repo.reproduce()
    assert paths.DVC_LOCK.read_bytes() == whole


def test_an_output_that_was_changed_is_named(project: Path, graph: Path) -> None:
    cut_off(graph)
    assert "dvc checkout data/split.parquet" in str(only_problem())


def test_a_file_that_the_cache_could_not_take_is_put_there(project: Path, graph: Path) -> None:
    cached(project).unlink()
    assert "not in DVC's cache" in only_problem().finding.problem
    examine(fix=True)
    assert cached(project).read_bytes() == b"0123456789"


@pytest.mark.parametrize("place", ["data", ".dvc/tmp", ".dvc/tmp/rwlock", ".dvc/cache/files/md5/78"])
def test_what_may_only_be_read_is_named(project: Path, graph: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """After one dvc by root, or in a container: `dvc repro` was refused, and all was well for the doctor."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda asked, mode: allowed(asked, mode) and Path(asked).absolute() != project / place)
    assert only_problem().finding.problem.endswith(f"{place}: may only be read here, and dvc repro wants to write")


def test_a_folder_that_the_cache_lost_is_put_there(project: Path) -> None:
    """With its list of files gone nothing is left that names the files; the stage's output is still what the lock says."""
    from dvc.repo import Repo

    (project / "dvc.yaml").write_text(
        "stages:\n  split:\n    cmd: mkdir -p data/raw && echo 1 > data/raw/a && echo 2 > data/raw/b\n    outs: [data/raw]\n"
    )
    with Repo.init(".", no_scm=True) as repo:
        repo.reproduce()
    shutil.rmtree(project / ".dvc/cache")
    assert only_problem().finding.problem == "data/raw: not in DVC's cache"
    examine(fix=True)
    assert examine() == []
    shutil.rmtree(project / "data/raw")
    with Repo(".") as repo:
        repo.checkout()
    assert (project / "data/raw/b").read_text() == "2\n"


@pytest.mark.parametrize("content", [b"", b"null", b"\xff\x00"])
def test_damaged_records_are_put_aside_and_damaged_locks_removed(project: Path, content: bytes) -> None:
    files = [paths.RETRAIN_REPORT / "2026/record.json", paths.RETRAIN_WORK / "folder.json", Path(".dvc/tmp/rwlock")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert len(examine()) == 3
    assert all(examined.mended for examined in examine(fix=True))
    assert examine() == []
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("params.yaml", "train:\n\tseed: 1\n", "params.yaml: not valid YAML"),
        ("params.yaml", "", "params.yaml: expected sections"),
        ("params.yaml", "data: {}\ndata: {}\n", "params.yaml: not valid YAML"),
        (".salt", "\n", ".salt"),
    ],
)
def test_a_file_that_a_person_damaged_is_named_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, said: str
) -> None:
    monkeypatch.delenv("CTMR_SALT", raising=False)
    (project / file).write_text(content)
    line = str(only_problem())
    assert said in line
    assert line.count("\n") == 0


@pytest.mark.parametrize(("file", "content"), [("index", "x"), ("HEAD", "")])
def test_a_damaged_git_repository_is_named(project: Path, file: str, content: str) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "params.yaml"], check=True)
    assert examine() == []
    (project / ".git" / file).write_text(content)
    assert re.search(rf"git cannot read the repository of {project}: (fatal|error): .*; git fsck says more", str(only_problem()))


def test_a_check_that_the_system_stops_keeps_no_other_from_its_word(project: Path) -> None:
    (paths.RETRAIN_REPORT / "2026/record.json").mkdir(parents=True)
    (project / ".dvc/tmp/rwlock").parent.mkdir(parents=True, exist_ok=True)
    (project / ".dvc/tmp/rwlock").touch()
    assert [str(examined).partition(":")[0] for examined in examine()] == ["problem", "problem"]


def test_a_worktree_that_git_forgot_is_removed(project: Path) -> None:
    (project / paths.RETRAIN_WORK / "workspace").mkdir(parents=True)
    assert "no git worktree" in only_problem().finding.problem
    examine(fix=True)
    assert examine() == []
