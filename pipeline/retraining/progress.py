"""A stage's count of steps as a progress bar in the Prefect UI."""

import re
import time
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

_COUNT = re.compile(r"\bstep (\d+) of (\d+)\b")
SECONDS = 2.0  # between updates


class Progress:
    """Watches the lines of `stage`; from the first that counts steps, a bar shows how far it is."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._artifact: UUID | None = None
        self._shown = 0.0

    def show(self, line: str) -> None:
        """Bring the bar up to date with `line`; a server that is away misses an update, nothing else happens."""
        found = _COUNT.search(line)
        if found is None or not int(found[2]):
            return
        step, steps = int(found[1]), int(found[2])
        if step < steps and time.monotonic() - self._shown < SECONDS:
            return
        self._shown = time.monotonic()
        share, words = 100.0 * step / steps, f"{self._stage}: step {step} of {steps}"
        try:
            if self._artifact is None:
                created: Any = create_progress_artifact(share, key=f"{self._stage}-progress", description=words)
                self._artifact = created
            else:
                update_progress_artifact(self._artifact, share, description=words)
        except Exception as error:  # any fault of the server; the stage itself is not to suffer
            print(f"progress not shown ({type(error).__name__})", flush=True)
