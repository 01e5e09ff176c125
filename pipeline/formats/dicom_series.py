"""DICOM files of one series as a volume, in any plane: sorted by their place, with what is missing, there twice or set aside."""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.formats import dicom, dicom_pixels
from pipeline.formats.dicom_header import load
from pipeline.formats.dicom_stacks import SAME_PLACE, Frame, group_frames, is_axial, read_frames
from pipeline.formats.slices import LIMITS, Limits, Slice, Unreadable
from pipeline.formats.volume import Volume

FARTHEST = 1000.0  # millimetres from one slice to the next
LONGEST = 1000  # missing slices that are counted in one gap
OVERLAP = 0.7  # of the thickness; slices that are nearer than this overlap
COMMON = 0.3  # share of steps from which a wide one is the protocol's and no gap


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
    frames, aside = read_frames(files, limits)
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


def _series(frames: list[Frame]) -> list[list[Frame]]:
    """Frames grouped by series, size of pictures and pixels, and plane. Where every file has a series of its own, series do not count."""
    own = len({frame.series for frame in frames}) == len({frame.file for frame in frames}) > 2
    return group_frames(frames, lambda frame: () if own else frame.series)


def _in_one_place(one: Frame, other: Frame) -> bool:
    """Whether both frames lie on the same voxels, to SAME_PLACE mm."""
    if one.affine is None or other.affine is None:
        return False
    return one.height - other.height < SAME_PLACE and bool(np.allclose(one.affine, other.affine, atol=SAME_PLACE))


def _in_order(frames: list[Frame], path: Path) -> Series:
    """Frames by their place, without copies: the same pixels in the same place. Raises UserError for several pictures in one place."""
    if not all(frame.placed for frame in frames):
        locations = [frame.location for frame in frames if frame.location is not None]
        located = len(set(locations)) == len(frames)
        ordered = sorted(frames, key=lambda frame: ((frame.location or 0.0) if located else 0.0, frame.instance, frame.file, frame.frame))
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
    _check_acquisitions(once, path)
    return Series(once, _find_missing(once, path), len(frames) - len(once))


def _check_acquisitions(frames: list[Frame], path: Path) -> None:
    """Raises UserError where slices of two acquisitions lie between each other and overlap: a patient moved, or they are two pictures.

    Slices of MR that is acquired in two passes lie between each other as well, but beside each other, and those of CT rotations do not.
    """
    overlapping: dict[frozenset[int], int] = defaultdict(int)
    reach: dict[int, list[float]] = defaultdict(list)
    for frame in frames:
        if frame.acquisition is not None:
            reach[frame.acquisition].append(frame.height)
    for one, other in itertools.pairwise(frames):
        if one.acquisition is None or other.acquisition is None or one.acquisition == other.acquisition:
            continue
        apart, thick = other.height - one.height, min(one.thickness or 0.0, other.thickness or 0.0)
        ends = reach[one.acquisition], reach[other.acquisition]
        common = min(max(ends[0]), max(ends[1])) - max(min(ends[0]), min(ends[1]))
        if apart < OVERLAP * thick and common > 2 * thick:
            overlapping[frozenset((one.acquisition, other.acquisition))] += 1
    if max(overlapping.values(), default=0) > 2:
        raise UserError(
            f"{path}: slices of several acquisitions (AcquisitionNumber) lie between each other and overlap; give a folder with one of them"
        )


def _find_missing(frames: list[Frame], path: Path) -> list[float]:
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
    if len(series.frames) > 1 and not all(frame.placed for frame in series.frames):
        located = len({frame.location for frame in series.frames} - {None}) == len(series.frames)
        order = "SliceLocation" if located else "instance numbers"
        warnings.append(f"its slices do not tell their place (ImagePositionPatient); taken by {order}, foot to head and evenly spaced")
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
    burned_in = next((slice_.burned_in for slice_ in ordered if slice_.burned_in), "")
    if burned_in:
        warnings.append(f"text may be burned into the pixels, a patient's name among it: {burned_in}; look before you pass anything on")
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
        burned_in=burned_in,
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
