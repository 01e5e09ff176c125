"""Work spread over processes: in order, and a worker that is killed ends it in one line."""

import os
import signal

import pytest

from pipeline.dataset.parallel import in_parallel
from pipeline.errors import UserError


def double(number: int) -> int:
    return 2 * number


def be_killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    called = []
    assert list(in_parallel(double, range(20), workers, lambda: called.append(True))) == list(range(0, 40, 2))
    assert called == [True][: workers - 1]


def test_a_killed_worker_is_one_line_and_no_waiting() -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        list(in_parallel(be_killed, range(8), 2))
