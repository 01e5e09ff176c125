"""Work spread over the machine's cores, results in order, so that the number of processes never shows in them."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int | None = None, meanwhile: Callable[[], object] | None = None
) -> Iterator[Result]:
    """function(task) for every task, in order, on `workers` processes (default: one per core that this process may use; 1: here).

    `meanwhile` is called once in this process while the others work: a slow import, say.
    """
    tasks = list(tasks)
    workers = min(workers or len(os.sched_getaffinity(0)), len(tasks))
    if workers <= 1:
        yield from map(function, tasks)
        return
    with multiprocessing.Pool(workers) as pool:
        results = pool.imap(function, tasks)
        if meanwhile:
            meanwhile()
        yield from results
