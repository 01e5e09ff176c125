"""What Prefect's server knows of other retrainings of the same repository, wherever they run.

Prefect's own concurrency limits keep a slot for ever when the server restarts (it keeps leases in memory), or a run is killed. Flow runs
themselves are a better register: each one first says where it runs, then looks whether another one is at work. Two that begin at the same
moment see each other and both step back.
"""

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Crashed, State

from pipeline.retraining import project
from pipeline.retraining.workspace import Busy

AT_WORK = [StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
SILENT = timedelta(minutes=10)  # a run elsewhere that has given no sign of life for so long is dead (heartbeats come every 3 minutes)


def claim(flow_run_id: UUID, name: str, repo: Path) -> list[str]:
    """Step forward as the one retraining of `repo`, whose lock this process holds, and call the flow run `name`.

    Gives the names of dead runs that were ended.

    Raises Busy when another one is at work on another machine or in another folder.
    """
    repository, place = f"repository:{project.repository(repo)}", f"place:{socket.gethostname()}:{repo}"
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(flow_run_id)
        client.update_flow_run(flow_run_id, name=name, tags=[*{*mine.tags, repository, place}])
        criteria = FlowRunFilter.model_validate({"state": {"type": {"any_": AT_WORK}}, "tags": {"all_": [repository]}})
        others = [run for run in client.read_flow_runs(flow_run_filter=criteria) if run.id != flow_run_id]
        dead = [run for run in others if place in run.tags or _silent(client, run)]
        for run in dead:
            stopped = run.state_type == StateType.CANCELLING
            state: State[None] = Cancelled(message="stopped") if stopped else Crashed(message=f"its process was lost; found by {name}")
            client.set_flow_run_state(run.id, state, force=True)
        for run in others:
            if run not in dead:
                where = next((tag for tag in run.tags if tag.startswith("place:")), "elsewhere")
                raise Busy(f"{run.name} at {where.removeprefix('place:')}")
    return [run.name for run in dead]


def _silent(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run on another machine has given no sign of life."""
    since = datetime.now(UTC) - SILENT
    if run.start_time is None or run.start_time > since:
        return False
    wanted = {"occurred": {"since": since.isoformat()}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}
    answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 1})
    return not answer.raise_for_status().json()["events"]
