"""What a team does, on real servers: data from S3, stages on Dask, training in two processes, MLflow on PostgreSQL and S3, DVC on S3,
retraining by workers that clone.

One story: each test goes on where the one before ended. Hosts are folders here, each with clones, a cache and settings of its own.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import params
from pipeline.processes import group
from pipeline.sources import phantom
from tests.graph.prefect_server import Server, until
from tests.graph.projects import BIN, SOURCE, Project, copy_project
from tests.graph.team import Team, team
from tests.tracking.servers import POSTGRES

for library in ("boto3", "distributed", "dvc_s3", "flask_wtf", "moto", "psycopg2"):
    pytest.importorskip(library)
pytestmark = [pytest.mark.timeout(3000), pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL absent: apt-get install postgresql")]

ENDED = ("Promoted", "Refused", "Repeated", "No change", "Skipped", "Failed", "Crashed", "Cancelled")
PATIENCE = 1500  # seconds: a busy machine takes long
SETTINGS = ("data.source=url", "data.url=s3://ctmr/data", "train.devices=2", "preprocess.teacher_pairs=96", "train.checkpoint_seconds=1")


@dataclass
class Place:
    """The servers, and a project that uses them."""

    servers: Team
    project: Project


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("team")
    with team(folder / "servers", "mlflow", "dask-worker", "prefect") as servers:
        project = copy_project(folder, "smoke", *SETTINGS)
        found = Project(project.folder, {**project.env, **servers.env, "CTMR_CACHE": str(folder / "cache")})
        data = params.load(SOURCE / "params.yaml").data
        few = data.phantom.model_copy(update={"subjects": 6, "test_subjects": 3, "slices": 2, "pixels": 96})
        phantom.fetch(data.model_copy(update={"phantom": few}), folder / "heads", workers=1)
        for file in (file for file in (folder / "heads").rglob("*") if file.is_file()):
            servers.s3().upload_file(str(file), "ctmr", f"data/{file.relative_to(folder / 'heads').as_posix()}")
        yield Place(servers, found)


def test_the_graph_ends_well_though_dask_workers_and_postgresql_are_killed(place: Place) -> None:
    from distributed import Client

    servers, project = place.servers, place.project
    printed = project.folder.parent / "repro"
    with printed.open("wb") as log:
        repro = subprocess.Popen(
            ["dvc", "repro"], cwd=project.folder, env=project.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def meets(condition: bool) -> bool:
        assert repro.poll() is None, printed.read_text()[-4000:]
        return condition

    try:
        with Client(servers.env["DASK_SCHEDULER_ADDRESS"], set_as_default=False) as dask:
            until(lambda: meets("'preprocess'" in printed.read_text() and any(dask.processing().values())), "heads on Dask", PATIENCE)
            servers.kill("dask worker")
        until(lambda: meets(bool(list(project.folder.glob("checkpoints/*/*.pt")))), "training", PATIENCE)
        servers.kill("bin/postgres -D")
        assert repro.wait(PATIENCE) == 0, printed.read_text()[-4000:]
    finally:
        repro.kill()
        repro.wait()
    assert servers.restarted("dask-worker")
    assert servers.restarted("postgres")
    assert any(name.endswith(".safetensors") for name in servers.keys("mlflow/"))
    assert "Traceback" not in printed.read_text()


def test_a_clone_elsewhere_pulls_and_translates_with_the_champion(place: Place, tmp_path: Path) -> None:
    servers, project = place.servers, place.project
    project.run("ctmr", "promote", "mr-to-ct", "1")
    project.run("dvc", "remote", "add", "-d", "team", "s3://ctmr/dvc")
    project.commit("a model of the team's")
    project.run("dvc", "push")
    assert servers.keys("dvc/files/md5/")

    other = Project(tmp_path / "elsewhere", {**project.env, "DVC_SITE_CACHE_DIR": str(tmp_path / "dvc-site")})
    project.run("git", "clone", "-q", ".", other.folder)
    other.run("dvc", "pull")
    assert "up to date" in other.run("dvc", "status", "split", "preprocess", "train", "evaluate", "register").stdout
    head = next(file for file in sorted((other.folder / "data/raw").rglob("*.png")) if "mr" in file.parts)
    other.run("ctmr", "translate", head, tmp_path / "champion.png", "--to", "ct")
    project.run("ctmr", "translate", head, tmp_path / "trained.png", "--to", "ct", "--model", "models")
    assert (tmp_path / "champion.png").read_bytes() == (tmp_path / "trained.png").read_bytes()


@contextmanager
def worker(project: Project, host: Path) -> Iterator[None]:
    """A worker that clones, on a host of its own."""
    (host / "clones").mkdir(parents=True)
    env = {"CTMR_CLONES": str(host / "clones"), "DVC_SITE_CACHE_DIR": str(host / "dvc-site"), "PREFECT_HOME": str(host / "prefect")}
    command = [str(BIN / "prefect"), "worker", "start", "--pool", "ctmr-test", "--type", "process"]
    with group(command, host, env={**project.environment(), **env}, capture=False):
        yield


def test_one_host_goes_on_from_what_another_did(place: Place, tmp_path: Path) -> None:
    apart = {name: value for name, value in place.project.env.items() if name not in ("DASK_SCHEDULER_ADDRESS", "CTMR_CACHE")}
    project, prefect = Project(place.project.folder, {**apart, "CTMR_PROJECT": "ctmr-test"}), Server(apart["PREFECT_API_URL"])
    project.run("git", "init", "-q", "--bare", tmp_path / "origin.git")
    project.run("git", "remote", "add", "origin", tmp_path / "origin.git")
    assert "is not on git's remote; git push, then run this again" in project.run("ctmr", "deploy", "--clones", expect=2).stdout
    project.run("git", "push", "-q", "-u", "origin", "HEAD:main")
    project.run("ctmr", "deploy", "--clones")

    def retrain() -> str:
        """How a retraining ended, in one process."""
        run = prefect.start("ctmr-test-new-data", settings=["train.devices=1", "train.images=8"])
        return str(until(lambda: (state := prefect.state(run)) in ENDED and state, f"end of {run}", PATIENCE))

    with worker(project, tmp_path / "first"):
        assert retrain() in ("Promoted", "Refused")
    with worker(project, tmp_path / "second"):
        assert retrain() == "No change"
    assert (tmp_path / "second/clones/ctmr-test/.git").is_dir()
    # A person's clone has the retraining as well, with its outputs.
    project.run("dvc", "exp", "pull", "-A", "origin")
    (name,) = project.run("dvc", "exp", "list", "--name-only", "-A").stdout.split()
    assert name.startswith("retrain-")
    assert name in project.run("ctmr", "history").stdout


def test_who_has_no_password_gets_one_line(place: Place) -> None:
    stranger = Project(place.project.folder, {**place.project.env, "MLFLOW_TRACKING_PASSWORD": "wrong"})
    printed = stranger.run("ctmr", "models", expect=2).stdout
    assert "not authenticated" in printed.lower() or "401" in printed
    assert "Traceback" not in printed
