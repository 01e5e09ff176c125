"""What tells projects on one server apart: names of deployments by folder, one retraining at a time by repository."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
import yaml
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_HOME, temporary_settings
from prefect.states import Completed, Running

from pipeline import paths, presets
from pipeline.atomic import write_json
from pipeline.errors import UserError
from pipeline.processes import stop_group
from pipeline.retraining import history, own_server, server, steps, workspace
from pipeline.retraining.flow import retrain
from pipeline.retraining.workspace import Busy
from tests.graph.prefect_server import until
from tests.graph.projects import BIN, make_prefect_home
from tests.training import jobs

NAME_PROCESS = """
import json, sys
from pathlib import Path
from pipeline.retraining import server
print(json.dumps(server.name_process(Path(sys.argv[1]))), flush=True)
input()
"""


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
            APILogHandler().flush()  # while there is a server to take them


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


@pytest.mark.parametrize("wrong", [timedelta(hours=-1), timedelta(hours=1)])
def test_another_machine_s_run_is_alive_whatever_the_clocks_say(
    at_work: "AtWork", monkeypatch: pytest.MonkeyPatch, wrong: timedelta
) -> None:
    class Clock(datetime):
        """That of this machine, an hour off."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return super().now(tz) + wrong

    monkeypatch.setattr(server, "datetime", Clock)
    at_work.begin("ctmr", "same")
    with pytest.raises(Busy, match="elsewhere:/srv/ctmr"):
        at_work.claim()


def test_another_machine_s_run_that_is_silent_is_ended(at_work: "AtWork", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SILENT", timedelta(seconds=-5))
    at_work.begin("ctmr", "same")
    assert len(at_work.claim()) == 1
    assert at_work.claim() == []


@pytest.mark.parametrize("lives", [True, False])
def test_a_run_killed_before_it_stepped_forward_is_ended(at_work: "AtWork", lives: bool) -> None:
    at_work.begin("other", "same")
    command = [sys.executable, "-c", NAME_PROCESS, at_work.repo]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    tags = json.loads(process.stdout.readline())
    with get_client(sync_client=True) as client:
        begun = client.create_flow_run(nothing, tags=tags, state=Running())
        if not lives:
            process.kill()
            process.wait()
        try:
            assert at_work.claim() == ([] if lives else [begun.name])
            assert client.read_flow_run(begun.id).state_type == (StateType.RUNNING if lives else StateType.CRASHED)
        finally:
            process.kill()
            process.communicate()
            client.set_flow_run_state(begun.id, Completed(), force=True)


@pytest.fixture
def project(prefect: None, tmp_path: Path) -> Path:
    """A project whose only stage trains, longer than any test waits."""
    folder = jobs.make(tmp_path / "project", images=10**6)
    (folder / ".gitignore").write_text("/data\n/models\n/checkpoints\n/mlruns\n/reports\n")
    train = {"cmd": f"{sys.executable} -m stages.train", "deps": ["params.yaml"], "outs": ["models", "reports/train"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": train}}))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([BIN / "dvc", "init", "-q"], cwd=folder, check=True)
    _commit(folder, "start")
    return folder


@pytest.mark.timeout(300)
def test_while_a_person_trains_a_retraining_is_skipped(project: Path) -> None:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = jobs.environment(project) | jobs.AWAY | {"PATH": path, "DVC_SITE_CACHE_DIR": str(project.parent / "site")}
    printed = project.parent / "printed"
    with printed.open("wb") as log:
        by_hand = subprocess.Popen([BIN / "dvc", "repro"], cwd=project, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: by_hand.poll() is not None or workspace.is_training(project), "training", 200)
        state = retrain(project, return_state=True)
        assert (state.name, state.message) == ("Skipped", f"skipped: {steps.BY_HAND}"), printed.read_text()
        assert by_hand.poll() is None
    finally:
        stop_group(by_hand, 60)
    assert not list((project / "reports").glob("retrain/*"))  # nothing was done, so there is nothing to tell


def test_a_fault_of_the_disk_is_one_line(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it comes: here the file that says who retrains cannot be written."""
    holder = project / paths.RETRAIN_WORK / "holder"
    holder.mkdir(parents=True)
    state = retrain(project, return_state=True)
    assert (state.name, state.message) == ("Failed", f"{holder}: is a directory")
    assert not [line for line in caplog.records if line.exc_info and line.name.startswith("prefect.")]


def test_a_person_who_trains_first_after_all_makes_it_skip(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that began by hand after the retraining had looked for one: its stage fails for the lock."""
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": "false", "deps": ["params.yaml"], "outs": ["models"]}}}))
    seen = iter([False, True])
    monkeypatch.setattr(workspace, "is_training", lambda _: next(seen))
    state = retrain(project, return_state=True)
    assert (state.name, state.message) == ("Skipped", f"skipped: {steps.BY_HAND}")


def test_the_first_champions_are_told_as_promoted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there was no champion before, as in every new project."""
    name, digest = "ct-to-mr", "a" * 64
    decided = {name: {"weights": digest, "decision": {"promoted": True, "mode": "auto", "checks": []}}}
    write_json(project / paths.VERSIONS_JSON, decided)
    stage = {
        "cmd": f"mkdir -p {paths.REGISTER_REPORT}; cp versions.json {paths.VERSIONS_JSON}",
        "deps": ["versions.json"],
        "outs": [str(paths.REGISTER_REPORT)],
    }
    shutil.move(project / paths.VERSIONS_JSON, project / "versions.json")
    stages = {"train": {"cmd": "true", "deps": ["params.yaml"]}, "register": stage}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    _commit(project, "register alone")
    asked = itertools.chain([{}], itertools.repeat({name: digest}))
    monkeypatch.setattr(steps.registry, "champions", lambda: next(asked))
    monkeypatch.setattr(steps.registry, "weights_digest", lambda _: digest)
    state = retrain(project, return_state=True)
    assert state.name == "Promoted", state.message
    (record,) = history.all_records(project)
    assert record.promoted == [name]


@pytest.mark.parametrize("there", [False, True])
def test_what_the_server_keeps_does_not_name_the_data_s_folder(project: Path, tmp_path: Path, there: bool) -> None:
    """Errors and lines of stages hold a hash for it; the person at the terminal reads it in clear."""
    folder = tmp_path / "Smith_John"
    for modality in ("ct", "mr") if there else ():
        (folder / modality).mkdir(parents=True)
        Image.effect_noise((64, 64), 80).save(folder / modality / "a.png")
    presets.apply([], ["data.source=folder", f"data.folder={folder}"], project / "params.yaml", jobs.SOURCE / "presets")
    graph = {"stages": {"train": {"cmd": f"echo '{folder}/ct/a.png: bad' && false", "outs": ["models"]}}}
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph))
    state = retrain(project, return_state=True)
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs()
        said = [log.message for log in client.read_logs()] + [run.state.message or "" for run in runs if run.state] + [state.message]
    assert any("/ct/a.png: bad" in line if there else "not found; give a directory" in line for line in said)
    assert not [line for line in said if "Smith" in line]
    assert "Smith" in str(state.result(raise_on_failure=False).__cause__)
    for file in (project / "reports").rglob("*.*"):
        assert "Smith" not in (file.read_text() if file.is_file() else "")
