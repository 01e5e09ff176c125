"""Libraries that tell on the standard error stream what they mend in a file: kept silent, since what they say may quote its header."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent(logger: str) -> Iterator[None]:
    """No warnings, and nothing from the logger of this name."""
    quiet = logging.getLogger(logger)
    level = quiet.level
    quiet.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        quiet.setLevel(level)
