"""Workers that clone, on two hosts with nothing in common but the servers: what one retrained, the other knows and goes on from.

Hosts are folders here, each with clones, a cache and settings of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.processes import group
from tests.graph.prefect_server import Server, until
from tests.graph.projects import BIN, Project, copy_project
from tests.graph.team import Team, team
from tests.tracking.servers import POSTGRES

for library in ("boto3", "distributed", "dvc_s3", "flask_wtf", "moto", "psycopg2"):
    pytest.importorskip(library)
pytestmark = [pytest.mark.timeout(2400), pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL absent: apt-get install postgresql")]

ENDED = ("Promoted", "Refused", "Repeated", "No change", "Skipped", "Failed", "Crashed", "Cancelled")


@dataclass
class Place:
    """The servers, and a project that was deployed on them for workers that clone."""

    servers: Team
    project: Project
    prefect: Server

    def worker(self, name: str):
        """A worker on a host of its own, besides the cluster's."""
        clones = self.project.folder.parent / name
        (clones / "clones").mkdir(parents=True)
        env = {
            "CTMR_CLONES": str(clones / "clones"),
            "DVC_SITE_CACHE_DIR": str(clones / "dvc-site"),
            "PREFECT_HOME": str(clones / "prefect"),
        }
        command = [str(BIN / "prefect"), "worker", "start", "--pool", "ctmr-test", "--type", "process"]
        return group(command, clones, env={**self.project.environment(), **env}, capture=False)

    def retrain(self, **parameters: object) -> str:
        """How a retraining ended."""
        run = self.prefect.start("ctmr-test-new-data", **parameters)
        return str(until(lambda: (state := self.prefect.state(run)) in ENDED and state, f"end of {run}", 1200))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clones")
    with team(folder / "servers", "mlflow", "prefect") as servers:
        copy = copy_project(folder, "smoke")
        env = {name: value for name, value in servers.env.items() if name != "DASK_SCHEDULER_ADDRESS"}
        project = Project(copy.folder, {**copy.env, **env, "CTMR_PROJECT": "ctmr-test"})
        project.run("dvc", "remote", "add", "-d", "team", "s3://ctmr/dvc")
        project.commit("our remote")
        project.run("git", "init", "-q", "--bare", folder / "origin.git")
        project.run("git", "remote", "add", "origin", folder / "origin.git")
        assert "is not on git's remote; git push, then run this again" in project.run("ctmr", "deploy", "--clones", expect=2).stdout
        project.run("git", "push", "-q", "-u", "origin", "HEAD:main")
        project.run("ctmr", "deploy", "--clones")
        yield Place(servers, project, Server(servers.env["PREFECT_API_URL"]))


def test_one_host_goes_on_from_what_another_did(place: Place) -> None:
    with place.worker("first"):
        assert place.retrain() in ("Promoted", "Refused")
    assert place.servers.keys("dvc/files/md5/")
    with place.worker("second"):
        assert place.retrain() == "No change"
    assert (place.project.folder.parent / "second/clones/ctmr-test/.git").is_dir()
    # A person's clone has the retraining as well, with its outputs.
    place.project.run("dvc", "exp", "pull", "-A", "origin")
    (name,) = place.project.run("dvc", "exp", "list", "--name-only", "-A").stdout.split()
    assert name.startswith("retrain-")
    assert name in place.project.run("ctmr", "history").stdout
