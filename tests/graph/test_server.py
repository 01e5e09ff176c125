"""What tells projects on one server apart: names of deployments by folder, one retraining at a time by repository."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.states import Completed, Running

from pipeline.errors import UserError
from pipeline.retraining import own_server, server
from pipeline.retraining.workspace import Busy
from tests.graph.projects import make_prefect_home


@flow
def nothing() -> None:
    """Stands for a retraining on the server."""


@dataclass
class AtWork:
    """A server on which the retraining of another machine is at work, and a repository that wants to."""

    repo: Path

    def begin(self, name: str, first: str) -> None:
        commit = server.first_commit(self.repo) if first == "same" else first
        with get_client(sync_client=True) as client:
            tags = [f"project:{name}", f"commit:{commit}", "place:elsewhere:/srv/ctmr"]
            self.other = client.create_flow_run(nothing, tags=tags, state=Running()).id
            self.mine = client.create_flow_run(nothing, state=Running()).id

    def claim(self) -> list[str]:
        return server.claim(self.mine, "retrain-1", self.repo)

    def end(self) -> None:
        with get_client(sync_client=True) as client:
            for run in (self.other, self.mine):
                client.set_flow_run_state(run, Completed(), force=True)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("server")
    make_prefect_home(folder)
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_HOME: folder}):
        patch.setenv("PREFECT_HOME", str(folder))
        patch.delenv("PREFECT_API_URL", raising=False)
        with own_server.prefect_server(folder):
            yield


@pytest.fixture
def at_work(prefect: None, tmp_path: Path) -> Iterator[AtWork]:
    work = AtWork(_repository(tmp_path / "here", "ctmr"))
    yield work
    work.end()


def _repository(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "prefect.yaml").write_text(f"name: {name}\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    _commit(folder, str(folder))
    return folder


def _commit(folder: Path, message: str) -> None:
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", message]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def test_deploying_needs_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match="PREFECT_API_URL is not set"):
        server.deploy(_repository(tmp_path / "one", "ctmr"))


def test_clones_are_one_repository_and_two_projects(tmp_path: Path) -> None:
    first = _repository(tmp_path / "one/ctmr", "Brains of Ward 3")
    second = tmp_path / "two/ctmr"
    shutil.copytree(first, second)
    assert server.first_commit(first) == server.first_commit(second)
    assert server.project_name(first) != server.project_name(second)
    assert server.project_name(first).startswith("brains-of-ward-3-")


def test_other_histories_are_other_repositories(tmp_path: Path) -> None:
    assert server.first_commit(_repository(tmp_path / "one", "ctmr")) != server.first_commit(_repository(tmp_path / "two", "ctmr"))


def test_a_shallow_clone_knows_no_first_commit(tmp_path: Path) -> None:
    first = _repository(tmp_path / "one", "ctmr")
    _commit(first, "second")
    subprocess.run(["git", "clone", "-q", "--depth", "1", first.as_uri(), tmp_path / "two"], check=True)
    assert server.first_commit(first)
    assert server.first_commit(tmp_path / "two") == ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("name", "first", "busy"),
    [("ctmr", "same", True), ("ctmr", "", True), ("ctmr", "other", False), ("heads", "same", False), ("heads", "", False)],
)
def test_one_at_a_time_for_all_clones(at_work: "AtWork", name: str, first: str, busy: bool) -> None:
    """A run of another machine's clone is at work; this one has the `name` and the first commit, "" where it is shallow."""
    at_work.begin(name, first)
    if busy:
        with pytest.raises(Busy, match="elsewhere:/srv/ctmr"):
            at_work.claim()
    else:
        assert at_work.claim() == []
