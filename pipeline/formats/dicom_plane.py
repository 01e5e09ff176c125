"""Where a DICOM frame lies in the patient, and how its pixels turn so that every axial slice is seen alike (DICOM PS3.3 C.7.6.2).

Patient coordinates in DICOM grow to the left, to the back and to the head. A slice is shown as radiologists see it: the patient's front
at the top, the patient's right at the left of the picture, seen from the feet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Plane:
    """Turns of a stored frame into the common view, and its place; the defaults leave a frame of unknown orientation as it is."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    axial: bool = True
    position: float | None = None  # millimetres along the normal, growing towards the head
    spacing: tuple[float, float] | None = None  # millimetres between rows and between columns, of the common view

    def show(self, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A stored frame (rows, columns, ...) in the common view."""
        shown = stored.swapaxes(0, 1) if self.transpose else stored
        return shown[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def store(self, shown: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The inverse of `show`."""
        turned = shown[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return turned.swapaxes(0, 1) if self.transpose else turned


def plane(dataset: Dataset, frame: int) -> Plane:
    """The plane of a frame, from the functional groups of an enhanced object or the attributes of a classic one."""
    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
    spacing = _numbers(measures, "PixelSpacing", 2) or _numbers(dataset, "ImagerPixelSpacing", 2)
    spacing = spacing if spacing and min(spacing) > 0 else None
    cosines = _numbers(functional_group(dataset, frame, "PlaneOrientationSequence") or dataset, "ImageOrientationPatient", 6)
    if cosines is None:
        return Plane(spacing=_pair(spacing))
    along_row, along_column = np.array(cosines[:3]), np.array(cosines[3:])  # of growing column index, and of growing row index
    normal = np.cross(along_row, along_column)
    if not 0.9 < np.linalg.norm(normal) < 1.1:
        return Plane(spacing=_pair(spacing))
    axial = int(np.argmax(np.abs(normal))) == 2
    transpose = bool(abs(along_row[0]) < abs(along_row[1])) if axial else False
    to_left, to_back = (along_column, along_row) if transpose else (along_row, along_column)
    corner = _numbers(functional_group(dataset, frame, "PlanePositionSequence") or dataset, "ImagePositionPatient", 3)
    upwards = normal * (-1 if normal[int(np.argmax(np.abs(normal)))] < 0 else 1)
    return Plane(
        transpose=transpose,
        flip_rows=axial and bool(to_back[1] < 0),
        flip_columns=axial and bool(to_left[0] < 0),
        axial=axial,
        position=None if corner is None else round(float(np.dot(corner, upwards)), 4),
        spacing=_pair(spacing[::-1] if spacing and transpose else spacing),
    )


def functional_group(dataset: Dataset, frame: int, name: str) -> Dataset | None:
    """The item of the macro `name` that holds for `frame` of an enhanced object: its own, else the shared one; None in classic objects."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items):
            found = items[index].get(name) or []
            if len(found) > 0:
                return found[0]  # type: ignore[no-any-return]
    return None


def _numbers(dataset: Dataset, name: str, count: int) -> list[float] | None:
    """The finite numbers of an attribute, or None when it is absent or not `count` numbers."""
    value = dataset.get(name)
    if not isinstance(value, Sequence | list) and not hasattr(value, "__len__"):
        return None
    try:
        numbers = [float(one) for one in value]  # type: ignore[union-attr]
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and bool(np.isfinite(numbers).all()) else None


def _pair(spacing: Sequence[float] | None) -> tuple[float, float] | None:
    return (float(spacing[0]), float(spacing[1])) if spacing else None
