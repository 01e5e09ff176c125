"""A folder's digest is other when anything that can be read below it is other."""

from pathlib import Path

import pytest

from pipeline.sources import content


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "project").mkdir()
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / "project" / name).touch()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_a_new_link_to_a_folder_that_is_there_already_is_seen(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine/archive/x").mkdir(parents=True)
    (tmp_path / "mine/archive/x/1.png").write_text("1")
    (tmp_path / "mine/ct").mkdir()
    before = content.digest(tmp_path / "mine")
    assert content.digest(tmp_path / "mine") == before
    (tmp_path / "mine/ct/P01").symlink_to(tmp_path / "mine/archive/x")
    assert content.digest(tmp_path / "mine") != before


def test_a_link_round_is_no_hindrance(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/round").symlink_to(tmp_path / "mine")
    assert content.digest(tmp_path / "mine") == content.digest(tmp_path / "mine")
