"""DICOM files of one series as a volume, in any plane: sorted by their place, with what is missing, there twice or set aside."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.formats import dicom, dicom_pixels
from pipeline.formats.dicom_gaps import find_missing
from pipeline.formats.dicom_header import frame_affine, functional_group, load, nothing_quoted, numbers
from pipeline.formats.slices import LIMITS, Limits, Slice, Unreadable
from pipeline.formats.volume import Volume

SAME_PLACE = 0.01  # millimetres
SAME_PLANE = 0.999  # cosine between directions of one series
SAME_PIXELS = 0.01  # share by which the spacing of one series may differ

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


@dataclass(frozen=True)
class Series:
    """Frames in the order of their place, or of their instance numbers where this is unknown. `missing`: places (mm) where neighbours
    and instance numbers say that a slice should be."""

    frames: list[Frame]
    missing: list[float] = field(default_factory=list)
    copies: int = 0


def read_volume(path: Path, files: list[Path], limits: Limits = LIMITS) -> Volume:
    """The volume in DICOM `files`: one (single, multi-frame or enhanced), or those of one series; `path` heads error messages.

    Raises UserError: Unreadable for damaged files; where there is no picture, or several series of similar length; and for a series with
    several pictures in one place (echoes, time points), since that is no single volume.
    """
    frames, aside = _frames(files, limits)
    if not frames and len(files) == 1:
        dicom_pixels.read_slices(files[0], limits)  # says what is wrong with it
    if not frames:
        raise UserError(f"{path}: no DICOM slices in this folder{_listed(aside)}; give a folder with one series, or a file")
    groups = sorted(_series(frames), key=lambda group: (not is_axial(group[0]), -len(group)))
    alike = [group for group in groups if is_axial(group[0]) == is_axial(groups[0][0])]
    if len(alike) > 1 and len(alike[1]) * 2 > len(alike[0]):
        lengths = ", ".join(str(len(group)) for group in alike)
        raise UserError(f"{path}: several series (of {lengths} slices); give a folder with one of them")
    series = _in_order(groups[0], path)
    warnings = _warnings(series, len(groups), aside)
    limits.check(path, *series.frames[0].size, len(series.frames))
    return _volume(path, series, warnings)


def group_frames(files: list[Path]) -> list[list[Frame]]:
    """The CT and MR frames in `files` that name their series, by series, size and plane, by their headers alone."""
    return _by_plane([frame for frame in _frames(files, LIMITS)[0] if frame.series[0]], lambda frame: frame.series)


def _frames(files: list[Path], limits: Limits) -> tuple[list[Frame], list[Unreadable]]:
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
                for frame in range(count):
                    affine, spacing = frame_affine(dataset, frame, file)
                    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
                    thickness = numbers(measures, "SliceThickness", file, 1)
                    frames.append(
                        Frame(
                            file,
                            frame,
                            (int(dataset.Rows), int(dataset.Columns)),
                            affine,
                            spacing,
                            number if isinstance(number, int) else 0,
                            thickness[0] if thickness else None,
                            series,
                            f"{uid}#{frame}" if uid else "",
                            space,
                        )
                    )
        except Unreadable as error:
            aside.append(error)
    return frames, aside


def _series(frames: list[Frame]) -> list[list[Frame]]:
    """Frames grouped by series, size of pictures and pixels, and plane. Where every file has a series of its own, series do not count."""
    own = len({frame.series for frame in frames}) == len({frame.file for frame in frames}) > 2
    return _by_plane(frames, lambda frame: () if own else frame.series)


def _by_plane(frames: list[Frame], series: Callable[[Frame], tuple[str, ...]]) -> list[list[Frame]]:
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
    return bool((cosines > SAME_PLANE).all()) and bool(np.allclose(*lengths, rtol=SAME_PIXELS))


def _in_one_place(one: Frame, other: Frame) -> bool:
    """Whether both frames lie on the same voxels, to SAME_PLACE mm."""
    if one.affine is None or other.affine is None:
        return False
    return one.height - other.height < SAME_PLACE and bool(np.allclose(one.affine, other.affine, atol=SAME_PLACE))


def is_axial(frame: Frame) -> bool:
    """Whether a frame lies nearest to an axial plane, or does not say how it lies."""
    return frame.affine is None or int(np.argmax(np.abs(frame.affine[:3, 2]))) == 2


def _in_order(frames: list[Frame], path: Path) -> Series:
    """Frames by their place, without copies: the same pixels in the same place. Raises UserError for several pictures in one place."""
    if not all(frame.placed for frame in frames):
        ordered = sorted(frames, key=lambda frame: (frame.instance, frame.file, frame.frame))
        named: dict[tuple[str, int], list[Frame]] = defaultdict(list)
        for frame in ordered:
            named[frame.uid or str(id(frame)), frame.instance].append(frame)
        kept = {id(frame) for alike in named.values() for frame in _different(alike)}
        return Series([frame for frame in ordered if id(frame) in kept], [], len(ordered) - len(kept))
    ordered = sorted(frames, key=lambda frame: (round(frame.height, 4), frame.instance, frame.file, frame.frame))
    places: list[list[Frame]] = []
    for frame in ordered:
        if places and _in_one_place(frame, places[-1][0]):
            places[-1].append(frame)
        else:
            places.append([frame])
    distinct = [_different(place) for place in places]
    several = sum(len(place) > 1 for place in distinct)
    heights = np.array([place[0].height for place in places])
    several += int((np.diff(heights) < SAME_PLACE).sum())  # beside each other in one plane
    if several:
        raise UserError(
            f"{path}: several pictures in the same place at {several} positions (echoes or time points?);"
            " give a folder with one picture per position"
        )
    once = [place[0] for place in distinct]
    return Series(once, find_missing(once, path), len(frames) - len(once))


def _different(frames: list[Frame]) -> list[Frame]:
    """Those of `frames`, of one place, that differ in their pixels."""
    if len(frames) == 1:
        return frames
    seen: dict[str, Frame] = {}
    for frame in frames:
        (slice_,) = dicom_pixels.decode(load(frame.file), [frame.frame], frame.file)
        seen.setdefault(hashlib.sha256(slice_.pixels.tobytes()).hexdigest(), frame)
    return list(seen.values())


def _warnings(series: Series, groups: int, aside: list[Unreadable]) -> list[str]:
    warnings = []
    if series.missing:
        places = ", ".join(f"{place:g}" for place in series.missing[:5]) + (", ..." if len(series.missing) > 5 else "")
        warnings.append(f"{len(series.missing)} slices are missing between the others, at {places} mm")
    if series.copies:
        warnings.append(f"{series.copies} copies of slices (same place, same pixels) were left out")
    if groups > 1:
        warnings.append(f"only the longest of {groups} series is used ({len(series.frames)} slices)")
    if aside:
        warnings.append(f"set aside{_listed(aside)}")
    return warnings


def _listed(aside: Iterable[Unreadable]) -> str:
    """How many files were set aside for which reason, without their names."""
    reasons = Counter(str(error).split(": ", 1)[-1].split(";")[0] for error in aside)
    return f": {', '.join(f'{count} × {reason}' for reason, count in reasons.most_common())}" if reasons else ""


def _volume(path: Path, series: Series, warnings: list[str]) -> Volume:
    """The series' pixels and geometry. A file of many frames is opened once."""
    frames = series.frames
    wanted: dict[Path, list[int]] = defaultdict(list)
    for frame in frames:
        wanted[frame.file].append(frame.frame)
    slices: dict[tuple[Path, int], Slice] = {}
    for file, some in wanted.items():
        slices |= {(file, slice_.frame): slice_ for slice_ in dicom_pixels.decode(load(file), some, file)}
    ordered = [slices[frame.file, frame.frame] for frame in frames]
    first = ordered[0]
    if len({(slice_.unit, slice_.modality) for slice_ in ordered}) > 1:
        raise Unreadable(f"{path}: slices of one series with and without Hounsfield units, or of two modalities")
    affine, offsets = _geometry(frames)
    return Volume(
        np.stack([slice_.pixels for slice_ in ordered]).transpose(2, 1, 0),
        affine,
        first.unit,
        dicom.NAME,
        str(path),
        modality=first.modality,
        contrast=first.contrast,
        group_key=first.group_key,
        offsets=offsets,
        space=frames[0].space,
        spacing=frames[0].spacing,
        window=first.window,
        colours=tuple(slice_.colour for slice_ in ordered),
        origin=frames,
        warnings=warnings,
    )


def _geometry(frames: list[Frame]) -> tuple[NDArray[np.float64] | None, tuple[float, ...] | None]:
    """(affine, offsets) of a volume of `frames`, as in `Volume`; a tilted gantry makes the affine a sheared one."""
    first = frames[0]
    if first.affine is None or first.spacing is None:
        return None, None
    affine = first.affine.copy()
    step = first.thickness or 1.0
    if not all(frame.placed for frame in frames):
        affine[:3, 3] = 0
        affine[:3, 2] *= step
        return affine, None
    if len(frames) == 1:
        affine[:3, 2] *= step
        return affine, None
    last = frames[-1].affine
    assert last is not None
    affine[:3, 2] = (last[:3, 3] - first.affine[:3, 3]) / (len(frames) - 1)
    heights = np.array([frame.height for frame in frames])
    even = np.allclose(np.diff(heights), (heights[-1] - heights[0]) / (len(frames) - 1), atol=2 * SAME_PLACE)
    return affine, None if even else tuple(np.round(heights - heights[0], 4).tolist())
