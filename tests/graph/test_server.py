"""What tells projects on one server apart: names of deployments by folder, one retraining at a time by repository."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.retraining import server


def _repository(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "prefect.yaml").write_text(f"name: {name}\n")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", str(folder)]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_clones_are_one_repository_and_two_projects(tmp_path: Path) -> None:
    first = _repository(tmp_path / "one/ctmr", "Brains of Ward 3")
    second = tmp_path / "two/ctmr"
    shutil.copytree(first, second)
    assert server.repository_key(first) == server.repository_key(second)
    assert server.project_name(first) != server.project_name(second)
    assert server.project_name(first).startswith("brains-of-ward-3-")


def test_a_name_of_its_own_makes_a_clone_another_repository(tmp_path: Path) -> None:
    first = _repository(tmp_path / "one", "ctmr")
    shutil.copytree(first, tmp_path / "two")
    (tmp_path / "two/prefect.yaml").write_text("name: heads\n")
    assert server.repository_key(first) != server.repository_key(tmp_path / "two")


def test_other_histories_are_other_repositories(tmp_path: Path) -> None:
    assert server.repository_key(_repository(tmp_path / "one", "ctmr")) != server.repository_key(_repository(tmp_path / "two", "ctmr"))


def test_deploying_needs_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match="PREFECT_API_URL is not set"):
        server.deploy(_repository(tmp_path / "one", "ctmr"))
