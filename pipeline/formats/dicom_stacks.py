"""Pictures in DICOM files, and which of them belong together: each series of a data folder whose slices have a place is one volume.

A volume is named by its first file. Only headers are read. Files without a place, alone, or cut off stay images of their own.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats import dicom, dicom_pixels
from pipeline.formats.dicom_header import frame_affine, functional_group, load, nothing_quoted, numbers
from pipeline.formats.slices import LIMITS, Limits, Unreadable

SAME_PLACE = 0.01  # millimetres
SAME_PLANE = 0.999  # cosine between directions of one series
SAME_PIXELS = 0.01  # share by which the spacing of one series may differ
LEAST = 3  # slices of a volume
MOST_UNEVEN = 4.0  # widest step over the narrower ones; farther apart lie parts of several stacks

_SERIES = ("SeriesInstanceUID", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID")  # slices of one series have all of them alike


@dataclass(frozen=True)
class Frame:
    """One stored picture: a frame of a file and where it lies. `affine` as `dicom_header.frame_affine`."""

    file: Path
    frame: int
    size: tuple[int, int]
    affine: NDArray[np.float64] | None = field(repr=False)
    spacing: tuple[float, float] | None
    instance: int
    thickness: float | None
    location: float | None  # Slice Location: where the position is not told, it orders slices
    acquisition: int | None  # Acquisition Number
    series: tuple[str, ...] = field(repr=False)  # these three for comparison in memory only: never written anywhere
    uid: str = field(repr=False)
    space: str = field(repr=False)  # the frame of reference: places are comparable within one only

    @property
    def placed(self) -> bool:
        """Whether the header says where in the patient it lies."""
        return self.affine is not None and bool(np.isfinite(self.affine).all())

    @property
    def height(self) -> float:
        """Millimetres along the normal, which points to the patient's left, back or head, whichever is nearest."""
        assert self.affine is not None
        return float(self.affine[:3, 3] @ self.affine[:3, 2])


def read_frames(files: list[Path], limits: Limits) -> tuple[list[Frame], list[Unreadable]]:
    """Frames of all files that hold CT or MR slices, by their headers, and the reasons why others do not."""
    frames: list[Frame] = []
    aside: list[Unreadable] = []
    for file in sorted(files):
        try:
            dataset = load(file, pixels=False)
            with nothing_quoted(file):
                count = dicom_pixels.check_size(dataset, file, limits)
                reason = dicom_pixels.set_aside(dataset, 0, file)
                if reason is not None:
                    raise reason
                series, uid = tuple(str(dataset.get(name) or "").strip() for name in _SERIES), str(dataset.get("SOPInstanceUID") or "")
                number, space = dataset.get("InstanceNumber"), str(dataset.get("FrameOfReferenceUID") or "")
                size, instance = (int(dataset.Rows), int(dataset.Columns)), number if isinstance(number, int) else 0
                acquisition = told if isinstance(told := dataset.get("AcquisitionNumber"), int) else None
                for frame in range(count):
                    affine, spacing = frame_affine(dataset, frame, file)
                    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
                    (thickness,) = numbers(measures, "SliceThickness", file, 1) or (None,)
                    (location,) = numbers(dataset, "SliceLocation", file, 1) or (None,)
                    own = f"{uid}#{frame}" if uid else ""
                    place = (affine, spacing, instance, thickness, location, acquisition)
                    frames.append(Frame(file, frame, size, *place, series, own, space))
        except Unreadable as error:
            aside.append(error)
    return frames, aside


def group_frames(frames: list[Frame], series: Callable[[Frame], tuple[str, ...]]) -> list[list[Frame]]:
    """`frames` by what `series` says of each, by size and by plane."""
    groups: dict[tuple[object, ...], list[list[Frame]]] = defaultdict(list)
    for frame in frames:
        alike = groups[series(frame), frame.size, frame.affine is None]
        group = next((group for group in alike if _same_plane(group[0], frame)), None)
        if group is None:
            alike.append([frame])
        else:
            group.append(frame)
    return [group for alike in groups.values() for group in alike]


def _same_plane(one: Frame, other: Frame) -> bool:
    if one.affine is None or other.affine is None:
        return True
    sides = one.affine[:3, :3], other.affine[:3, :3]
    lengths = [np.linalg.norm(side, axis=0) for side in sides]
    cosines = (sides[0] * sides[1]).sum(axis=0) / (lengths[0] * lengths[1])
    return bool((cosines > SAME_PLANE).all()) and bool(np.allclose(lengths[0], lengths[1], rtol=SAME_PIXELS))


def is_axial(frame: Frame) -> bool:
    """Whether a frame lies nearest to an axial plane, or does not say how it lies."""
    return frame.affine is None or int(np.argmax(np.abs(frame.affine[:3, 2]))) == 2


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
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and dicom.is_dicom(file) and dicom_pixels.is_whole(file)]
    volumes: dict[Path, tuple[Path, ...]] = {}
    firsts: dict[Path, Path] = {}
    frames = [frame for frame in read_frames(files, LIMITS)[0] if frame.series[0]]
    for group in group_frames(frames, lambda frame: frame.series):
        members = tuple(sorted({frame.file for frame in group}))
        alone = len(members) == 1 and is_axial(group[0])  # its frames are slices as they are
        if len(group) >= LEAST and not alone and _is_volume(group) and not firsts.keys() & set(members):
            volumes[members[0]] = members
            firsts |= dict.fromkeys(members, members[0])
    return volumes, firsts


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
