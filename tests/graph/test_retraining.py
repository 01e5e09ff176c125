"""Retraining on a real Prefect server (on PostgreSQL) with a process worker. One story: each test goes on where the one before ended."""

import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline import params
from pipeline.retraining.server import project_name
from pipeline.sources import phantom
from tests.graph.prefect_server import Server, kill, prefect_server, until, webhooks, worker
from tests.graph.projects import SOURCE, Project, copy_project, tree_bytes
from tests.tracking.servers import POSTGRES

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL absent: apt-get install postgresql")]

LONG = ["train.images=240", "train.checkpoint_seconds=0.5"]  # half a minute of training, to be interrupted


@dataclass
class Place:
    """A project whose slices lie in a folder of its owner's, deployed to a server; `posted` is what the webhook got.

    `running` ends the workers that it started.
    """

    project: Project
    server: Server
    slices: Path
    posted: list[dict[str, Any]]
    before: dict[str, bytes]
    running: ExitStack = field(default_factory=ExitStack)

    def start_worker(self) -> None:
        self.worker = self.running.enter_context(worker(self.project))

    def user_files(self) -> dict[str, bytes]:
        return tree_bytes(self.project.folder, "params.yaml", "dvc.yaml", "pipeline/retraining/flow.py", ".git/HEAD", "notes.txt")

    @property
    def deployment(self) -> str:
        return f"{project_name(self.project.folder)}-new-data"

    def outcome(self, run: str) -> str:
        """How the run ended."""
        return str(until(lambda: (state := self.server.state(run)) not in _GOING and state, f"end of {run}"))


_GOING = ("Running", "Scheduled", "Pending", "Late", "Cancelling", "Submitting", "InfrastructurePending", "Retrying", "AwaitingRetry")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("retraining")
    slices = folder / "slices"
    _simulate(slices, subjects=6)
    without_teacher = ("preprocess.teacher_pairs=0", "train.teacher.images=0")
    project = copy_project(folder, "smoke", "data.source=folder", f"data.folder={slices}", "register.floors.spread=0.0", *without_teacher)
    (project.folder / "notes.txt").write_text("not git's business yet")
    project.settings(None, "train.images=8")  # not committed: a retraining uses params as they stand
    with prefect_server(folder) as server, webhooks() as (address, posted):
        project = Project(project.folder, {**project.env, "PREFECT_API_URL": server.address})
        deployments = project.folder / "prefect.yaml"
        deployments.write_text(deployments.read_text().replace("notify: []", f"notify: ['{address}']"))
        project.run("ctmr", "deploy")
        found = Place(project, server, slices, posted, {})
        found.before = found.user_files()
        with found.running:
            found.start_worker()
            yield found


@pytest.mark.timeout(2400)
def test_by_schedule_one_at_a_time_until_nothing_is_new(place: Place) -> None:
    deployment = place.server.ask("GET", f"/deployments/name/retrain/{place.deployment}")
    for schedule in deployment["schedules"]:
        place.server.ask("DELETE", f"/deployments/{deployment['id']}/schedules/{schedule['id']}")
    every = {"schedule": {"interval": 30}, "active": True}
    (made,) = place.server.ask("POST", f"/deployments/{deployment['id']}/schedules", [every])
    until(lambda: "Skipped" in [run["state_name"] for run in place.server.runs()], "one that is due meanwhile")
    place.server.ask("DELETE", f"/deployments/{deployment['id']}/schedules/{made['id']}")
    until(lambda: _is_quiet(place.server, deployment["id"]), "quiet")
    assert place.outcome(place.server.start(place.deployment)) == "No change"
    names = [run["state_name"] for run in place.server.runs()]
    assert names[0] in ("Promoted", "Refused")
    assert names[1] == "Skipped"
    assert set(names[1:]) <= {"Skipped", "No change"}
    quick = next(run for run in place.server.runs() if run["state_name"] == "No change")
    assert quick["total_run_time"] < 60  # 3 s on an idle machine; a graph takes minutes
    assert [posted["outcome"] for posted in place.posted][:2] == [names[0].lower(), "no change"]
    assert "| train | ran |" in place.posted[0]["text"]
    assert "runs?workflowType=machine_learning&compareRunsMode=CHART" in place.posted[0]["text"]
    key = f"retrain-summary-{project_name(place.project.folder)}"
    shown = place.server.ask("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": [key]}}})
    assert any("data:image/jpeg" in artifact["data"] for artifact in shown)


def test_other_projects_on_the_same_server_are_left_alone_and_it_can_be_cancelled(place: Place, tmp_path: Path) -> None:
    champions = _champions(place)
    clone = Project(tmp_path / "project", place.project.env)
    place.project.run("git", "clone", "-q", ".", clone.folder)
    stranger = copy_project(tmp_path / "elsewhere", "smoke", "data.source=folder", "data.folder=nowhere")
    stranger = Project(stranger.folder, {**stranger.env, "PREFECT_API_URL": place.server.address})
    stranger.run("ctmr", "deploy")
    found = place.server.ask("POST", "/deployments/filter", {})
    for folder in (place.project.folder, stranger.folder):
        mine = [one for one in found if one["name"].startswith(project_name(folder))]
        assert len(mine) == 2
        assert {one["work_pool_name"] for one in mine} == {project_name(folder)}
        assert all(one["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"] == str(folder) for one in mine)
    run = place.server.start(place.deployment, settings=["train.images=4000"])
    _training(place, run)
    printed = stranger.run("ctmr", "retrain", expect=2).stdout
    assert "nowhere" in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not (stranger.folder / "data/raw").exists()
    assert (
        f"skipped: another retraining is at work: {place.server.ask('GET', f'/flow_runs/{run}')['name']}"
        in clone.run("ctmr", "retrain").stdout
    )
    place.server.ask("POST", f"/flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    until(lambda: not _at_work(place.project), "end of the stage, well before Prefect would kill it", 20)
    assert place.outcome(run) == "Cancelled"
    assert _champions(place) == champions


@pytest.mark.timeout(2400)
def test_killed_and_finished_by_a_new_worker(place: Place) -> None:
    _simulate(place.slices, subjects=8)
    champions = _champions(place)
    run = place.server.start(place.deployment, settings=LONG)
    _training(place, run)
    kill(place.worker)
    assert place.outcome(run) == "Crashed"
    until(lambda: not _at_work(place.project), "end of all that the run started", 30)  # it reports, then goes
    assert _champions(place) == champions
    place.start_worker()
    run = place.server.start(place.deployment, settings=LONG)
    assert place.outcome(run) in ("Promoted", "Refused")
    assert any("going on from step" in line for line in place.server.logs(run))
    told = place.posted[-1]
    assert told["outcome"] in ("promoted", "refused")
    assert "better than copying the input" in told["text"]  # three heads for testing are too few for a champion
    assert "20 CT and 20 MR" in told["text"]
    assert "before: Slices of a folder, 16 CT and 16 MR" in told["text"]


@pytest.mark.timeout(2400)
def test_a_stage_that_takes_too_long_is_stopped(place: Place) -> None:
    champions, settings = _champions(place), ["train.images=4000", "train.checkpoint_seconds=0.5"]
    with _blocks(place) as (blocks, told):
        run = place.server.start(place.deployment, settings=settings, timeout_minutes={"train": 0.15}, notify=blocks)
        assert place.outcome(run) == "Failed"
        (failed,) = [posted for posted in told if "outcome" in posted]
        assert failed["outcome"] == "failed"
        why = 'stage train took longer than 0.15 minutes and was stopped; raise timeout_minutes, such as {"train": 0.3}'
        assert failed["error"] == why
        assert why in place.server.ask("GET", f"/flow_runs/{run}")["state"]["message"]
        until(lambda: not _at_work(place.project), "end of all that the run started", 30)
        assert _champions(place) == champions
        assert [posted for posted in told if posted.keys() == {"title", "said"}] == [
            {"title": failed["subject"], "said": f"{failed['subject']}\n{failed['text']}"}
        ]
        (by_apprise,) = [posted for posted in told if "message" in posted]
        assert by_apprise["title"] == failed["subject"]
        assert why in by_apprise["message"]


def test_the_user_finds_everything_as_it_was(place: Place) -> None:
    assert place.user_files() == place.before
    assert not (place.project.folder / "data").exists()
    status = place.project.run("git", "status", "--porcelain").stdout.splitlines()
    assert sorted(line[3:] for line in status) == ["notes.txt", "params.yaml", "prefect.yaml"]


def test_history_names_what_dvc_can_bring_back(place: Place) -> None:
    printed = place.project.run("ctmr", "history").stdout
    names = place.project.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert len(names) == 2
    for name in names:
        assert name in printed
    assert "cancelled" in printed
    report = place.project.folder / "reports/retrain" / f"{max(names).removeprefix('retrain-')}.md"
    assert report.read_text().startswith(f"# {max(names)}")


@contextmanager
def _blocks(place: Place) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """(names of three kinds of Prefect's blocks that tell a receiver, what it was told)."""
    with webhooks() as (address, told):
        said = {"title": "{{subject}}", "said": "{{subject}}\n{{body}}"}
        by_apprise = address.replace("http://", "json://")  # what Slack's block hands on to apprise, which speaks to many services
        place.project.run(
            sys.executable,
            "-c",
            "from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook\n"
            "from prefect.blocks.webhook import Webhook\n"
            f"Webhook(url={address!r}).save('team')\n"
            f"CustomWebhookNotificationBlock(name='team', url={address!r}, json_data={said!r}).save('team')\n"
            f"SlackWebhook(url={by_apprise!r}).save('team')\n",
        )
        yield ["webhook/team", "custom-webhook/team", "slack-webhook/team"], told


def _simulate(folder: Path, subjects: int) -> None:
    """Slices of simulated heads in `folder`, more of them for more subjects, the first ones the same."""
    data = params.load(SOURCE / "params.yaml").data
    few = data.phantom.model_copy(update={"subjects": subjects, "test_subjects": 2, "slices": 2, "pixels": 96})
    shutil.rmtree(folder, ignore_errors=True)
    phantom.fetch(data.model_copy(update={"phantom": few}), folder, workers=1)


def _is_quiet(server: Server, deployment: str) -> bool:
    """Whether no run of the deployment is at work or to come; those that the planner left beside a deleted schedule go."""
    not_ended = {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}
    left = server.ask("POST", "/flow_runs/filter", {"flow_runs": not_ended, "deployments": {"id": {"any_": [deployment]}}})
    for run in left:
        if run["state_type"] == "SCHEDULED":
            server.ask("DELETE", f"/flow_runs/{run['id']}")
    return not left


def _training(place: Place, run: str) -> None:
    until(lambda: any(line.startswith("step ") for line in place.server.logs(run)), "training")


def _champions(place: Place) -> list[tuple[str, int]]:
    """Model and version of each champion in the project's MLflow store."""
    database = sqlite3.connect(place.project.folder / "mlruns/mlflow.db")
    try:
        query = "SELECT name, version FROM registered_model_aliases WHERE alias = 'champion' ORDER BY name"
        return database.execute(query).fetchall()
    finally:
        database.close()


def _at_work(project: Project) -> list[int]:
    """Processes of a retraining of this project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CTMR_RETRAINING", "").startswith(str(project.folder)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
