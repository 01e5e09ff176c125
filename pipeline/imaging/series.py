"""DICOM files of one series in the order of their place in the patient, with what is missing or there twice."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.imaging import dicom
from pipeline.imaging.dicom_plane import Plane, plane
from pipeline.imaging.formats import kind_of
from pipeline.imaging.slices import Unreadable

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
            if kind_of(file) != "dicom":
                continue
            with dicom.own_words(file):
                dataset = dicom.load(file, pixels=False)
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
