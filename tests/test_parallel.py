"""Work spread over processes: in order, whatever the number of workers, and no worker that is killed loses anything."""

import itertools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.parallel import AHEAD, in_parallel


def double(number: int) -> int:
    return 2 * number


def be_killed_at_5(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def be_killed_once(task: tuple[int, Path]) -> int:
    number, marker = task
    if number == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    called = []
    assert list(in_parallel(double, range(20), workers, lambda: called.append(True))) == list(range(0, 40, 2))
    assert called == [True][: workers - 1]


def test_any_executor_does_the_work() -> None:
    with ThreadPoolExecutor(3) as threads:
        assert list(in_parallel(double, range(50), 3, executor=threads)) == list(range(0, 100, 2))


def test_tasks_are_handed_out_as_results_are_used() -> None:
    """A million results do not pile up in front of a slow reader."""
    begun = []
    with ThreadPoolExecutor(1) as thread:
        results = in_parallel(begun.append, range(1000), 1, executor=thread)
        assert list(itertools.islice(results, 10)) == [None] * 10
        assert len(begun) <= 10 + AHEAD
        assert isinstance(results, Iterator)


def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    tasks = [(number, tmp_path / "killed") for number in range(40)]
    assert list(in_parallel(be_killed_once, tasks, 2)) == list(range(40))
    assert (tmp_path / "killed").exists()


def test_an_input_that_kills_every_worker_is_named_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^scan 5: 3 worker processes were killed on this input, most likely for want of memory"):
        list(in_parallel(be_killed_at_5, range(40), 2, name="scan {}".format))
