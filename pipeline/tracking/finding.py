"""What `ctmr doctor` finds."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, what a person can do about it, and what `--fix` calls to mend it; None where only a person can."""

    problem: str
    remedy: str = "run ctmr doctor --fix"
    mend: Callable[[], object] | None = None
