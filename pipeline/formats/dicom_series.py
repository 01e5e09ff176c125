"""DICOM files of one series in the order of their place in the patient, with what is missing or there twice."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.formats import dicom, dicom_pixels
from pipeline.formats.dicom_plane import Plane, plane
from pipeline.formats.slices import Slice, Unreadable
from pipeline.formats.volume import Volume

SAME_PLACE = 0.01  # millimetres


@dataclass(frozen=True)
class Reference:
    """One stored picture: a frame of a file, with its plane."""

    file: Path
    frame: int
    plane: Plane
    instance: int = 0
    uid: str = field(default="", repr=False)  # for comparison in memory only: never written anywhere


@dataclass(frozen=True)
class Series:
    """Pictures from foot to head. `missing`: positions (mm) where the regular distance says that a slice should be; `twice`: positions
    that several pictures share (echoes, time points, or copies). `spacing`: the usual distance of slices in mm, None where unknown."""

    references: list[Reference]
    missing: list[float]
    twice: list[float]
    spacing: float | None


def find(files: list[Path]) -> list[Series]:
    """The series among `files` (the largest first), each sorted by position; files that are no DICOM pictures are left out.

    Copies of the same instance count once. Pictures of unknown position keep the order of their instance numbers, then names.
    """
    found: dict[tuple[Any, ...], list[Reference]] = defaultdict(list)
    for file in sorted(files):
        try:
            with dicom_pixels.header_kept_quiet(file):
                dataset = dicom_pixels.load(file, pixels=False)
                key = (str(dataset.get("SeriesInstanceUID", "")), dataset.Rows, dataset.Columns)
                number = dataset.get("InstanceNumber")
                for frame in range(int(dataset.get("NumberOfFrames") or 1)):
                    where = plane(dataset, frame)
                    turn = (where.axial, where.transpose, where.flip_rows, where.flip_columns)
                    uid = f"{dataset.get('SOPInstanceUID', file)}#{frame}"
                    found[*key, *turn].append(Reference(file, frame, where, number if isinstance(number, int) else 0, uid))
        except Unreadable:
            continue
    return sorted((_sorted(pictures) for pictures in found.values()), key=lambda series: -len(series.references))


def _sorted(pictures: list[Reference]) -> Series:
    once = list({picture.uid: picture for picture in reversed(pictures)}.values())[::-1]
    places = [picture.plane.position for picture in once]
    if any(place is None for place in places):
        return Series(sorted(once, key=lambda picture: (picture.instance, picture.file, picture.frame)), [], [], None)
    once.sort(key=lambda picture: (picture.plane.position, picture.instance, picture.file, picture.frame))
    sorted_places = np.array([picture.plane.position for picture in once], float)
    steps = np.diff(sorted_places)
    twice = sorted({float(sorted_places[i]) for i in np.flatnonzero(steps < SAME_PLACE)})
    forward = steps[steps >= SAME_PLACE]
    if forward.size == 0:
        return Series(once, [], twice, None)
    usual = float(np.median(forward))
    missing = []
    for i in np.flatnonzero(steps > 1.5 * usual):
        count = round(float(steps[i]) / usual) - 1
        missing += [round(float(sorted_places[i] + (n + 1) * steps[i] / (count + 1)), 4) for n in range(max(count, 1))]
    return Series(once, missing, twice, round(usual, 4))


def read_volume(path: Path, files: list[Path]) -> Volume:
    """The volume in DICOM `files`: one (single, multi-frame or enhanced), or those of one series; `path` heads error messages.

    Raises UserError: Unreadable for damaged files; for a folder without DICOM files or with several series of the same length, and for a
    series with several pictures in one place (echoes, time points), since that is no single volume.
    """
    found = find(files)
    if not found and len(files) == 1:
        dicom_pixels.read_frames(files[0])  # says what is wrong with it
    if not found:
        raise UserError(f"{path}: no DICOM pictures in this folder; give a folder with one series, or a file")
    axial = [one for one in found if one.references[0].plane.axial]
    if not axial:
        raise Unreadable(f"{path}: no axial slices; convert the series to NIfTI, which is resliced here")
    chosen = axial[0]
    if len(axial) > 1 and len(axial[1].references) * 2 > len(chosen.references):
        lengths = ", ".join(str(len(one.references)) for one in axial)
        raise UserError(f"{path}: several series (of {lengths} slices); give a folder with one of them")
    if chosen.twice:
        raise UserError(
            f"{path}: several pictures in the same place at {len(chosen.twice)} positions (echoes or time points?);"
            " give a folder with one picture per position"
        )
    warnings = []
    if chosen.missing:
        places = ", ".join(f"{place:g}" for place in chosen.missing[:5]) + (", ..." if len(chosen.missing) > 5 else "")
        warnings.append(f"{len(chosen.missing)} slices are missing between the others, at {places} mm")
    if len(axial) > 1:
        warnings.append(f"only the longest of {len(axial)} series is used ({len(chosen.references)} slices)")

    def restore(slices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.stack([reference.plane.store(one) for one, reference in zip(slices, chosen.references, strict=True)])

    return Volume(_slices(chosen.references), dicom.NAME, origin=chosen.references, restore=restore, warnings=warnings)


def _slices(references: list[Reference]) -> list[Slice]:
    """The slices in their order; a file of many frames is opened once."""
    frames: dict[Path, list[int]] = defaultdict(list)
    for reference in references:
        frames[reference.file].append(reference.frame)
    slices = {(file, slice_.frame): slice_ for file, wanted in frames.items() for slice_ in dicom_pixels.read_frames(file, wanted)}
    return [slices[reference.file, reference.frame] for reference in references]
