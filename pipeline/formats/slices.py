"""What every reader gives: a slice with its pixels and what the file says about them, or an error with a reason."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import UserError

Unit = Literal["hu", "grey", "raw"]


class Unreadable(UserError):
    """A file that is no image of a known format, or whose content contradicts itself."""

    reason = "unreadable"


class Truncated(Unreadable):
    """A file that ends too early."""

    reason = "truncated"


class NotAxial(Unreadable):
    """A localizer, or sagittal or coronal slices that are too thick to be cut anew."""

    reason = "not axial"


class OtherModality(Unreadable):
    """What is neither CT nor MR, or not the one that was expected: ultrasound, PET, dose, a page of text, a segmentation."""

    reason = "other modality"


class UnknownValues(Unreadable):
    """Numbers of a CT that are no Hounsfield units, and nothing that can be brought to them."""

    reason = "unknown values"


@dataclass(frozen=True)
class Limits:
    """What a file may claim before it is unpacked: pixels of a slice, slices, and voxels in all.

    A small file can claim any size. The defaults are more than any head has: 4096 × 4096 pixels, and 2 GiB as float32.
    """

    pixels: int = 2**24
    slices: int = 4096
    voxels: int = 2**29

    def check(self, path: Path, rows: int, columns: int, slices: int) -> None:
        """Raises Unreadable for a size that is none, or beyond the limits."""
        size = f"{slices} {'slice' if slices == 1 else 'slices'} of {columns} × {rows} pixels"
        if min(rows, columns, slices) < 1:
            raise Unreadable(f"{path}: claims {size}; damaged, copy it again")
        if rows * columns > self.pixels or slices > self.slices or rows * columns * slices > self.voxels:
            raise Unreadable(
                f"{path}: claims {size}; at most {self.slices} slices of {self.pixels / 2**20:.0f} million pixels,"
                f" {self.voxels / 2**20:.0f} million voxels in all, are read"
            )


LIMITS = Limits()
FREE = 2**28  # bytes that any file may unpack to
MAX_RATIO = 100  # beyond FREE, this many times the size of the file; scans are packed to a half or a tenth, never to a hundredth


def check_unpacked(path: Path, numbers: int) -> None:
    """Raises Unreadable where a packed file would become far larger, as `numbers` of four bytes, than any scan of its size does."""
    unpacked = 4 * numbers
    if unpacked > max(FREE, MAX_RATIO * path.stat().st_size):
        raise Unreadable(
            f"{path}: {path.stat().st_size / 2**20:.1f} MiB that would become {unpacked / 2**20:.0f} MiB; no scan is packed that well"
        )


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture.

    pixels: float32 (H, W). Unit "hu": Hounsfield units; "grey": 0..1 of a picture's range, or MR intensities as they stand in the file;
        "raw", only inside this package: numbers whose meaning is not settled yet (see values.py).
    frame: position in its file or series, from 0; 0 for a single picture.
    modality: "ct" or "mr" where the file says so, else "".
    spacing: millimetres between rows and between columns, or None where unknown.
    group_key: keyed hash of the patient (where unknown, of the series); slices with the same key must stay together. "" where unknown.
    contrast: MR contrast "t1", "t2", "flair" or "pd" where the file's acquisition parameters say so, else "".
    position: millimetres along the slice normal (towards the head for axial slices), or None where unknown.
    window: the numbers that the file says to show black and white, or None; of use for "raw" only.
    burned_in: why text may be burned into the pixels, by the header; "" where it does not say so.
    colour: share of pixels whose red, green and blue differ visibly (by more than 16 of 255); 0 for grey files.
    """

    pixels: np.ndarray[Any, np.dtype[np.float32]] = field(repr=False)
    unit: Unit = "grey"
    frame: int = 0
    modality: Literal["ct", "mr", ""] = ""
    spacing: tuple[float, float] | None = None
    group_key: str = ""
    contrast: str = ""
    position: float | None = None
    window: tuple[float, float] | None = None
    burned_in: str = ""
    colour: float = 0.0

    @property
    def scale(self) -> tuple[float, float]:
        """Height and width of a pixel, in millimetres where they are known, else 1 and 1."""
        return self.spacing or (1.0, 1.0)
