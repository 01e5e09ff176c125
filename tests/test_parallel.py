"""Work spread over processes: in order, whatever the number of workers, and no worker that is killed loses anything."""

import itertools
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.parallel import AHEAD, SCHEDULER, in_parallel


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
    with pytest.raises(UserError, match=r"^scan 5: one worker process after the other was killed on this input"):
        list(in_parallel(be_killed_at_5, range(40), 2, name="scan {}".format))


@pytest.fixture
def on_dask(dask_scheduler: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(SCHEDULER, dask_scheduler)
    return dask_scheduler


def whereabouts(number: int) -> tuple[int, int, str]:
    return number, os.getpid(), str(Path.cwd())


def be_slow(number: int) -> int:
    time.sleep(0.02)
    return number


def read(file: Path) -> str:
    return file.read_text()


def test_a_cluster_does_the_work_in_the_projects_folder(on_dask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = list(in_parallel(whereabouts, range(40)))
    assert [number for number, _, _ in results] == list(range(40))
    assert {folder for _, _, folder in results} == {str(tmp_path)}
    assert os.getpid() not in {process for _, process, _ in results}


def test_files_of_the_project_are_the_same_there(on_dask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        Path(f"{number}.txt").write_text(str(number))
    files = [Path(f"{number}.txt") for number in range(3)]
    assert list(in_parallel(read, files)) == ["0", "1", "2"]
    with pytest.raises(UserError, match=r"a worker on .* has no gone.txt; all hosts must see the same data"):
        list(in_parallel(read, [*files, Path("gone.txt")]))


def test_an_input_that_kills_every_worker_of_a_cluster_is_named(on_dask: str) -> None:
    with pytest.raises(UserError, match=r"^scan 5: one worker process after the other was killed on this input"):
        list(in_parallel(be_killed_at_5, range(10), name="scan {}".format))


def test_a_lost_worker_of_a_cluster_loses_nothing(on_dask: str, tmp_path: Path) -> None:
    tasks = [(number, tmp_path / "killed") for number in range(20)]
    assert list(in_parallel(be_killed_once, tasks)) == list(range(20))
    assert (tmp_path / "killed").exists()


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv(SCHEDULER, "tcp://127.0.0.1:1")
    monkeypatch.setattr("pipeline.cluster.WAIT_SECONDS", 4.0)
    with pytest.raises(UserError, match=r"DASK_SCHEDULER_ADDRESS = tcp://127.0.0.1:1: no Dask scheduler answers") as error:
        list(in_parallel(double, range(3)))
    assert error.value.retryable


def test_workers_with_other_code_are_refused(on_dask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.code_digest.__code__", (lambda: os.environ.get("DASK_WORKER_NAME", "here")).__code__)
    with pytest.raises(UserError, match=r"the Dask worker tcp://.* runs other code of ctmr|cannot import ctmr"):
        list(in_parallel(double, range(3)))


def test_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("pipeline.parallel.REPORT_SECONDS", 0.1)
    list(in_parallel(be_slow, range(20), 1))
    assert re.search(r"^\d+ of 20 parts done, \d+(\.\d+)? a second, 0 min left$", capsys.readouterr().err, re.MULTILINE)
