"""Retrainings of several machines as one line: each brings the others' before it starts, and hands on its own.

What was done travels as DVC experiments through git's remote `origin`, outputs through DVC's default remote.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError, mask_credentials
from pipeline.retraining import graph

GIT_REMOTE = "origin"


def check(repo: Path) -> None:
    """Raises UserError where the project has no remotes to share by."""
    with graph.open_graph(repo) as dvc:
        if not dvc.config["core"].get("remote"):
            raise UserError("sharing retrainings needs a default remote of DVC: dvc remote add -d team s3://BUCKET/dvc, then commit it")


def bring_experiments(repo: Path) -> None:
    """The retrainings of all machines, without their outputs. Raises UserError, retryable, where git's remote cannot be reached."""
    with _one_line(f"git's remote {GIT_REMOTE}"), graph.open_graph(repo) as dvc:
        dvc.experiments.pull(GIT_REMOTE, all_commits=True)


def bring_outputs(folder: Path) -> None:
    """Outputs that dvc.lock names and the cache lacks, as far as the remote has them. Raises UserError where it cannot be reached."""
    from dvc.exceptions import DownloadError

    with _one_line("DVC's remote"), graph.open_graph(folder) as dvc:
        try:
            dvc.fetch()
        except DownloadError:  # some are not there: their stages run again
            return


def hand_on(repo: Path, experiment: str) -> None:
    """Push the experiment and its outputs. Raises UserError where a remote cannot be reached, or refuses."""
    with _one_line("its remotes"), graph.open_graph(repo) as dvc:
        dvc.experiments.push(GIT_REMOTE, [experiment], push_cache=True)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What git and the storage's client raise as one line; they know many errors, and share no class."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}", retryable=True) from None
    except Exception as error:
        reason = mask_credentials(next(iter(str(error).splitlines()), "")) or type(error).__name__
        raise UserError(f"{what}: cannot be reached, or refuses ({reason})", retryable=True) from error
