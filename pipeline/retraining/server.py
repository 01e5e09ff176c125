"""The project on a Prefect server: what tells it from others there, its deployments, and what the server knows of other retrainings.

Prefect's own concurrency limits keep a slot for ever when the server restarts (it keeps leases in memory), or a run is killed. Flow runs
themselves are a better register: each one first says where it runs, then looks whether another one is at work. Two that begin at the same
moment see each other and both step back.
"""

import hashlib
import os
import re
import socket
import subprocess
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Crashed, State

from pipeline.errors import UserError
from pipeline.processes import environment
from pipeline.retraining.own_server import check_named_server
from pipeline.retraining.workspace import NO_REPOSITORY, Busy, git

VARIABLE = "CTMR_PROJECT"  # by which prefect.yaml learns the name
CLONING = Path("deploy/prefect.yaml")  # its deployments are for workers on any host, each with a clone of its own
AT_WORK = [StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
SILENT = timedelta(minutes=10)  # a run elsewhere that has given no sign of life for so long is dead (heartbeats come every 3 minutes)


def first_commit(folder: Path) -> str:
    """The commit that all clones began with, 12 digits; empty in a shallow clone, which does not know it.

    Raises UserError where `folder` is in no git repository with a commit.
    """
    if git(folder, "rev-parse", "--is-shallow-repository", or_else=NO_REPOSITORY) == "true":
        return ""
    return git(folder, "rev-list", "--max-parents=0", "HEAD", or_else="its history cannot be read").split()[0][:12]


def project_name(folder: Path) -> str:
    """Begins the names of the project's deployments and their pool; lower case, digits and dashes.

    `$CTMR_PROJECT` where it is set, which is for workers that clone; else one for this folder alone, which its deployments know.
    """
    if given := os.environ.get(VARIABLE):
        return given
    digest = hashlib.sha256(f"{given_name(folder)}-{first_commit(folder)} {folder.resolve()}".encode()).hexdigest()
    return f"{given_name(folder)}-{digest[:6]}"


def name_process(repo: Path) -> list[str]:
    """Tags that a flow run begins with: this process, which runs it for `repo`. One that is killed before it claims is known by them."""
    process = psutil.Process()
    return [f"begun:{socket.gethostname()}:{repo.resolve()}", f"process:{process.pid}:{process.create_time()}"]


def claim(flow_run_id: UUID, name: str, repo: Path) -> list[str]:
    """Step forward as the one retraining of `repo`, whose lock this process holds, and call the flow run `name`.

    One retraining at a time is for all clones of a repository, on any machine: those with the same `name` in prefect.yaml and the same
    first commit. A shallow clone, which does not know its first commit, counts as a clone of every repository of its name.

    Gives the names of dead runs that were ended. Raises Busy when another one is at work on another machine or in another folder.
    """
    project, first, place = f"project:{given_name(repo)}", first_commit(repo), f"place:{socket.gethostname()}:{repo}"
    begun = place.replace("place:", "begun:", 1)
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(flow_run_id)
        client.update_flow_run(flow_run_id, name=name, tags=[*{*mine.tags, project, f"commit:{first}", place}])
        criteria = FlowRunFilter.model_validate({"state": {"type": {"any_": AT_WORK}}, "tags": {"any_": [project, begun]}})
        at_work = [run for run in client.read_flow_runs(flow_run_filter=criteria) if run.id != flow_run_id]
        others = [run for run in at_work if project in run.tags and (not first or {f"commit:{first}", "commit:"} & set(run.tags))]
        dead = [run for run in others if place in run.tags or _silent(client, run)]
        dead += [run for run in at_work if project not in run.tags and not _lives(run)]
        for run in dead:
            stopped = run.state_type == StateType.CANCELLING
            state: State[None] = Cancelled(message="stopped") if stopped else Crashed(message=f"its process was lost; found by {name}")
            client.set_flow_run_state(run.id, state, force=True)
        for run in others:
            if run not in dead:
                where = next((tag for tag in run.tags if tag.startswith("place:")), "elsewhere")
                raise Busy(f"{run.name} at {where.removeprefix('place:')}")
    return [run.name for run in dead]


def deploy(folder: Path, clones: bool = False) -> None:
    """`ctmr deploy`: make the pool of the project in `folder` where it is missing, then the deployments of prefect.yaml.

    `clones`: those of deploy/prefect.yaml instead, whose workers clone this commit from git's remote.

    Raises UserError where a step fails.
    """
    if clones and not git(folder, "branch", "-r", "--contains", "HEAD", or_else="its branches cannot be listed"):
        raise UserError("the commit that workers are to clone is not on git's remote; git push, then run this again")
    if not PREFECT_API_URL.value():
        raise UserError("PREFECT_API_URL is not set; export it with the address of the server, such as http://SERVER:4200/api")
    check_named_server(PREFECT_API_URL.value())
    pool = project_name(folder)
    _make_pool(pool)
    file = CLONING if clones else Path("prefect.yaml")
    command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    if subprocess.run(command, cwd=folder, env=environment({VARIABLE: pool}), check=False).returncode:
        raise UserError(f"{file} cannot be deployed; see above")
    where = "CTMR_CLONES=FOLDER-FOR-CLONES " if clones else ""
    print(f"now, on each machine that trains: {where}prefect worker start --pool {pool}")


def _make_pool(name: str) -> None:
    """As `prefect work-pool create NAME --type process`, where there is none of that name. Raises UserError where the server refuses it."""
    try:
        with get_client(sync_client=True) as client:
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                from prefect.workers.process import ProcessWorker

                template = ProcessWorker.get_default_base_job_template()
                client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))
    except (httpx.HTTPError, PrefectException) as error:
        raise UserError(f"the work pool {name} cannot be made: {error}") from None


def given_name(folder: Path) -> str:
    """`name` in prefect.yaml, else that of the folder, as a word of lower case, digits and dashes."""
    file = folder / "prefect.yaml"
    given = (yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader) or {}).get("name") if file.is_file() else None
    return re.sub("[^a-z0-9]+", "-", str(given or folder.resolve().name).lower()).strip("-") or "project"


def _lives(run: FlowRun) -> bool:
    """Whether the process that its tags name is one of this machine's."""
    named = next((tag.removeprefix("process:") for tag in run.tags if tag.startswith("process:")), "")
    return named in (f"{process.pid}:{process.info['create_time']}" for process in psutil.process_iter(["create_time"]))


def _silent(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run on another machine has given no sign of life. By the server's clock alone: that of any other machine may be wrong."""
    wanted = {"resource": {"id": [f"prefect.flow-run.{run.id}"]}, "order": "DESC"}
    answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1}).raise_for_status()
    signs = [datetime.fromisoformat(event["received"]) for event in answer.json()["events"]]
    signs += [run.updated] if run.updated else []
    return bool(signs) and parsedate_to_datetime(answer.headers["Date"]) - max(signs) > SILENT
