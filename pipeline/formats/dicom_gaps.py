"""Where slices of a DICOM series are missing."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.formats.slices import Unreadable

if TYPE_CHECKING:
    from pipeline.formats.dicom_series import Frame

FARTHEST = 1000.0  # millimetres from one slice to the next
LONGEST = 1000  # missing slices that are counted in one gap
COMMON = 0.3  # share of steps from which a wide one is the protocol's and no gap


def find_missing(frames: "list[Frame]", path: Path) -> list[float]:
    """Places where slices should be. Uneven spacing alone is no loss: some protocols have thin slices at the base and thick ones above.

    A leap of instance numbers that follow the places tells of a loss; so does a step that is twice or more times as wide as those on both
    sides of it, unless the slices are that thick, or so wide a step is common. Raises Unreadable for steps that no series has.
    """
    heights = np.array([frame.height for frame in frames])
    steps = np.diff(heights)
    if steps.size and steps.max() > FARTHEST:
        raise Unreadable(f"{path}: a slice lies {steps.max():.4g} mm from the next; its place (ImagePositionPatient) is damaged")
    leaps = np.diff([frame.instance for frame in frames])
    numbered = bool(leaps.size) and bool((leaps > 0).all() or (leaps < 0).all())
    missing: list[float] = []
    for i, step in enumerate(steps if len(steps) > 1 else []):
        beside = [float(steps[j]) for j in (i - 1, i + 1) if 0 <= j < len(steps)]
        thick = max((frame.thickness or 0.0 for frame in frames[i : i + 2]), default=0.0)
        if numbered and abs(leaps[i]) > 1 and step > 1.5 * min(beside):
            count = int(abs(leaps[i])) - 1
        elif _is_gap(float(step), beside) and thick < 0.8 * step and float((np.abs(steps - step) < 0.1 * step).mean()) < COMMON:
            count = round(float(step) / min(beside)) - 1
        else:
            continue
        missing += [round(float(heights[i] + (n + 1) * step / (count + 1)), 4) for n in range(min(count, LONGEST))]
    return missing


def _is_gap(step: float, beside: list[float]) -> bool:
    """Whether a step is a multiple of its neighbours, which are alike."""
    times = step / max(beside)
    return times > 1.5 and abs(times - round(times)) < 0.2 and max(beside) < 1.2 * min(beside)
