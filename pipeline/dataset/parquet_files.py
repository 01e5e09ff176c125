"""Parquet files of the graph: read whole, or refused in one line that says how to get them back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_table(file: Path, stage: str) -> "pd.DataFrame":
    """The table in `file`, which `stage` writes. Raises UserError where it is missing, cut off, empty or damaged."""
    import pandas as pd

    with damage_said(file, stage):
        return pd.read_parquet(file)


@contextmanager
def damage_said(file: Path, stage: str) -> Iterator[None]:
    """One line for what reading `file` raises when it is missing or damaged."""
    from pyarrow import ArrowException

    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro {stage} first") from None
    except PermissionError:
        raise
    except (ArrowException, OSError, ValueError, KeyError):  # pyarrow raises a plain OSError for a damaged footer
        line = f"{file}: empty, cut off or damaged; bring it back with dvc checkout --force {file}, or delete it and run dvc repro {stage}"
        raise UserError(line) from None
