"""DICOM files of a data folder that belong together: each series whose slices have a place is one volume, named by its first file.

Only headers are read. Files without a place, alone, or cut off stay images of their own.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats import dicom, dicom_pixels, dicom_series
from pipeline.formats.dicom_series import SAME_PLACE, Frame

START = 512  # bytes that tell a DICOM file
LEAST = 3  # slices of a volume
MOST_UNEVEN = 4.0  # widest step over the narrower ones; farther apart lie parts of several stacks


def files_of(path: Path) -> tuple[Path, ...]:
    """The files of the volume that `path` is the first file of; empty where it is none."""
    return _stacks_beside(path)[0].get(path, ())


def first_of(path: Path) -> Path:
    """The first file of the volume that `path` belongs to; `path` itself where it is that, or of no volume."""
    return _stacks_beside(path)[1].get(path, path)


def _stacks_beside(path: Path) -> tuple[dict[Path, tuple[Path, ...]], dict[Path, Path]]:
    return _stacks(path.parent, path.parent.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _stacks(folder: Path, changed: int) -> tuple[dict[Path, tuple[Path, ...]], dict[Path, Path]]:
    """By first file, the files of each volume in `folder` itself; and by each of these files, the first."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_dicom(file) and dicom_pixels.is_whole(file)]
    volumes: dict[Path, tuple[Path, ...]] = {}
    firsts: dict[Path, Path] = {}
    for group in dicom_series.group_frames(files) if files else []:
        members = tuple(sorted({frame.file for frame in group}))
        alone = len(members) == 1 and dicom_series.is_axial(group[0])  # its frames are slices as they are
        if len(group) >= LEAST and not alone and _is_volume(group) and not firsts.keys() & set(members):
            volumes[members[0]] = members
            firsts |= dict.fromkeys(members, members[0])
    return volumes, firsts


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as content:
        return dicom.recognises(content.read(START))


def _is_volume(group: list[Frame]) -> bool:
    """Whether frames lie behind each other, one in each place, in steps of one stack."""
    if not all(frame.placed for frame in group):
        return False
    ordered = sorted(group, key=lambda frame: frame.height)
    steps = np.diff([frame.height for frame in ordered])
    corners: NDArray[np.float64] = np.array([frame.affine[:3, 3] for frame in ordered if frame.affine is not None])
    along = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    straight = bool((along < 2 * steps + SAME_PLACE).all())  # tilted by less than 60 degrees, not beside each other
    return bool((steps > SAME_PLACE).all()) and straight and bool(steps.max() <= MOST_UNEVEN * np.percentile(steps, 25))
