"""Work on a Dask cluster: the extra `cluster`. Workers need this version of ctmr, and the project's folder under the same path."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipeline import privacy
from pipeline.errors import UserError
from pipeline.parallel import AHEAD, in_order, name_killer

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")
WAIT_SECONDS = 60.0  # for a scheduler to answer and for a first worker


@dataclass(frozen=True)
class OnWorker(Generic[Task, Result]):
    """A function as a worker calls it: in the project's folder, so that places mean the same there, with the salt that is set here."""

    function: Callable[[Task], Result]
    folder: str
    salt: str

    def __call__(self, task: Task) -> Result:
        try:
            os.chdir(self.folder)
        except OSError:
            raise UserError(
                f"a worker on {os.uname().nodename} has no {self.folder}; all hosts must see the project's folder under the same path"
            ) from None
        if self.salt:
            os.environ[privacy.SALT_VARIABLE] = self.salt
        try:
            return self.function(task)
        except FileNotFoundError as error:
            raise UserError(f"a worker on {os.uname().nodename} has no {error.filename}; all hosts must see the same data") from None


class Submitter(Executor):
    """Dask's own executor, as far as `in_order` needs one.

    Client.get_executor() was tried: with distributed 2026.8 a future of it never ends where the task's last worker dies while its
    result is asked for (the error is raised in a callback, and nobody hears it).
    """

    def __init__(self, client: "Client") -> None:
        self.client = client

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Any:
        """A future with `result` and `cancel`."""
        return self.client.submit(fn, *args, **kwargs, pure=False)


def run(
    address: str,
    function: Callable[[Task], Result],
    tasks: list[Task],
    meanwhile: Callable[[], object] | None,
    name: Callable[[Task], str],
) -> Iterator[Result]:
    """As `parallel.in_parallel`, on the cluster whose scheduler is at `address`.

    Dask runs the tasks of a lost worker again. Raises UserError where there is no scheduler or worker, where a worker has another
    version, where the scheduler is lost midway, and for an input on which worker after worker dies.
    """
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    done = 0
    there = OnWorker(function, str(Path.cwd()), os.environ.get(privacy.SALT_VARIABLE, ""))
    with _connect(address) as client:
        ahead = AHEAD * max(sum(client.nthreads().values()), 8)
        try:
            while done < len(tasks):
                try:
                    for result in in_order(Submitter(client), there, tasks[done:], ahead, meanwhile):
                        done += 1
                        yield result
                except KilledWorker:  # Dask blames all that were on the worker: this one alone tells whether it is guilty
                    result = Submitter(client).submit(there, tasks[done]).result()
                    done += 1
                    yield result
                meanwhile = None
        except KilledWorker:
            raise name_killer(name(tasks[done])) from None
        except (FutureCancelledError, CommClosedError):
            raise UserError(f"the Dask scheduler at {address} was lost; start it again, then run again", retryable=True) from None


@contextmanager
def _connect(address: str) -> "Iterator[Client]":
    from distributed import Client

    try:
        client = Client(address, timeout=WAIT_SECONDS / 4, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserError(
            f"DASK_SCHEDULER_ADDRESS = {address}: no Dask scheduler answers ({type(error).__name__}); start one, or unset the variable to"
            " work on this machine",
            retryable=True,
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError:
            raise UserError(f"the Dask scheduler at {address} has no workers; start some: dask worker {address}", retryable=True) from None
        _check_versions(client)
        yield client


def _check_versions(client: "Client") -> None:
    """Whether every worker runs the code that runs here: other code gives other bytes."""
    ours = code_digest()
    try:
        theirs: dict[str, Any] = client.run(code_digest, on_error="return")
    except Exception as error:  # e.g. another version of Dask or Python, which cannot even read the call
        raise UserError(f"the Dask workers cannot run ctmr ({type(error).__name__}); install this version of ctmr and Dask there") from None
    for worker, digest in theirs.items():
        if digest != ours:
            reason = f"cannot import ctmr ({type(digest).__name__})" if isinstance(digest, BaseException) else "runs other code of ctmr"
            raise UserError(f"the Dask worker {worker} {reason}; install there what runs here, then start it again")


def code_digest() -> str:
    """Digest of our own code."""
    whole = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(root.rglob("*.py")):
        whole.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return whole.hexdigest()
