"""A person's word on a model that passed the gate: the flow pauses, with the comparison in view, until somebody answers or time is up."""

import threading
from datetime import timedelta
from typing import Any

from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput

MARGIN = 300  # seconds by which Prefect would wait longer: it fails runs whose pause ran out, so the answer "no" is given before


class Approval(RunInput):
    """What the person says."""

    promote: bool
    comment: str = ""


def ask(comparison: str, limit: timedelta) -> tuple[bool, str]:
    """(whether to promote, the person's comment); (False, "nobody answered ...") when nobody resumes the run within `limit`."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    run_id, late = context.flow_run.id, threading.Event()

    def too_late() -> None:
        late.set()
        resume_flow_run(run_id, run_input={"promote": False, "comment": ""})

    seconds = limit.total_seconds()
    timer = threading.Timer(seconds, too_late)
    timer.daemon = True
    timer.start()
    try:
        question: Any = Approval.with_initial_data(description=comparison, promote=False)
        answer = pause_flow_run(wait_for_input=question, timeout=int(seconds) + MARGIN, poll_interval=2)
    finally:
        timer.cancel()
    if late.is_set():
        return False, f"nobody answered within {limit}"
    return answer.promote, answer.comment
