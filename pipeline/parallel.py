"""Work spread over this machine's cores, a Dask cluster or any other executor; results in order, so that nothing shows where it ran.

Results come back to the process that asked, which alone writes: functions give values and touch no shared file. With
`$DASK_SCHEDULER_ADDRESS` set, the cluster does the work; it is how a run is executed, never a param.
"""

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from pipeline.errors import UserError
from pipeline.processes import SIGNALS, die_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
TRIES = 3  # so many workers may die on a task
AHEAD = 4  # tasks per worker that are handed out before their turn: no worker waits, and memory stays flat
REPORT_SECONDS = 10.0  # between lines on how far the work is


def in_parallel(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int | None = None,
    meanwhile: Callable[[], object] | None = None,
    *,
    executor: Executor | None = None,
    name: Callable[[Task], str] = str,
) -> Iterator[Result]:
    """function(task) for every task, in order, on `workers` processes (default: the cluster, else a process for each core; 1: here).

    `executor`: where to work without a cluster, instead of processes, `workers` then being how many work there. `function` and tasks must
    be picklable.
    `meanwhile` is called once in this process while the others work: a slow import, say. A task whose worker is killed (by the system,
    for memory) runs again; a task on which `TRIES` workers died is a UserError that says what `name(task)` calls it.
    """
    tasks = list(tasks)
    cores = len(os.sched_getaffinity(0))
    if (workers is None or executor is not None) and os.environ.get(SCHEDULER) and len(tasks) > 1:
        from pipeline import cluster  # needs distributed, an extra

        results = cluster.run(os.environ[SCHEDULER], function, tasks, meanwhile, name)
    elif executor is not None:
        results = in_order(executor, function, tasks, AHEAD * (workers or cores), meanwhile)
    elif min(workers or cores, len(tasks)) > 1:
        results = _on_processes(function, tasks, min(workers or cores, len(tasks)), meanwhile, name)
    else:
        results = map(function, tasks)
    yield from _reported(results, len(tasks))


def name_killer(task: str) -> UserError:
    """The error for an input on which workers die."""
    return UserError(
        f"{task}: one worker process after the other was killed on this input, most likely for want of memory; free some, or remove this"
        " input, then run again"
    )


def _on_processes(
    function: Callable[[Task], Result],
    tasks: list[Task],
    workers: int,
    meanwhile: Callable[[], object] | None,
    name: Callable[[Task], str],
) -> Iterator[Result]:
    """A killed process breaks the whole pool: the tasks that were handed out then run one by one, until the guilty one is known."""
    done = suspects_end = deaths = 0
    while done < len(tasks):
        careful = done < suspects_end
        batch = tasks[done:suspects_end] if careful else tasks[done:]
        with ProcessPoolExecutor(1 if careful else workers, mp_context=get_context("fork"), initializer=_begin_worker) as pool:
            with _signals_held():
                pool.submit(os.getpid)  # the first task forks all workers
            try:
                for result in in_order(pool, function, batch, 1 if careful else AHEAD * workers, meanwhile):
                    done, deaths = done + 1, 0
                    yield result
            except BrokenProcessPool:
                deaths = deaths + 1 if careful else 1
                if deaths >= TRIES:
                    raise name_killer(name(tasks[done])) from None
                if not careful:
                    suspects_end = min(len(tasks), done + AHEAD * workers)
        meanwhile = None


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait meanwhile, in the processes forked here until they begin: those still have the handlers of the one that asked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Leave it to the process that asked to end in order when it is stopped by hand, and end with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    die_with_parent()


def in_order(
    executor: Executor,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    ahead: int,
    meanwhile: Callable[[], object] | None,
) -> Iterator[Result]:
    """Results in the order of `tasks`, at most `ahead` of which are handed out at a time."""
    left = iter(tasks)
    handed_out: deque[Future[Result]] = deque(executor.submit(function, task) for task in islice(left, ahead))
    if meanwhile:
        meanwhile()
    try:
        while handed_out:
            result = handed_out[0].result()
            handed_out.popleft()
            handed_out.extend(executor.submit(function, task) for task in islice(left, 1))
            yield result
    finally:
        if isinstance(executor, ProcessPoolExecutor):
            # By the pool's own thread, which a future cancelled beside it would end when workers die.
            executor.shutdown(cancel_futures=True)
        for future in handed_out:
            future.cancel()


def _reported(results: Iterable[Result], count: int) -> Iterator[Result]:
    """The results as they are; on work that takes long, a line now and then that says how far it is."""
    began = reported = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS and done < count:
            rate = done / (now - began)
            left = (count - done) / rate
            print(f"{done} of {count} parts done, {rate:.3g} a second, {left / 60:.0f} min left", file=sys.stderr, flush=True)
            reported = now
