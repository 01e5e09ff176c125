"""Work spread over the machine's cores, results in order, so that the number of processes never shows in them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from pipeline.errors import UserError
from pipeline.processes import die_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None, meanwhile: Callable[[], object] | None = None
) -> Iterator[Result]:
    """function(task) for every task, in order, on `workers` processes (default: one per core that this process may use; 1: here).

    `meanwhile` is called once in this process while the others work: a slow import, say. Raises UserError when one of them was killed
    (by the system, for memory), where a multiprocessing.Pool would wait for its result for ever.
    """
    tasks = list(tasks)
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        yield from map(function, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=die_with_parent) as pool:
        results = pool.map(function, tasks)
        if meanwhile:
            meanwhile()
        try:
            yield from results
        except BrokenProcessPool:
            raise UserError("a worker process was killed, most likely for want of memory; free some, then run again") from None
