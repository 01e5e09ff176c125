"""What every reader gives: a slice with its pixels and what the file says about them, or an error with a reason."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pipeline.errors import UserError

Unit = Literal["hu", "grey"]


class Unreadable(UserError):
    """A file that is no image of a known format, or whose content contradicts itself."""

    reason = "unreadable"


class Truncated(Unreadable):
    """A file that ends too early."""

    reason = "truncated"


class NotAxial(Unreadable):
    """A sagittal or coronal slice, or a localizer."""

    reason = "not axial"


class OtherModality(Unreadable):
    """A picture that is neither CT nor MR by its own word: ultrasound, PET, segmentation, dose."""

    reason = "other modality"


MAX_PIXELS = 2**24  # 4096 × 4096; more is no slice of a head, and a small file can claim any size
MAX_VOXELS = 2**29  # of a whole volume, 2 GiB as float32; a head of 0.25 mm voxels has fewer


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture.

    pixels: float32 (H, W), in Hounsfield units (unit "hu") or grey values (unit "grey": 0..1 of the range of an 8- or 16-bit picture file,
        or MR intensities as they stand in DICOM and NIfTI).
    frame: position in its file or series, from 0; 0 for a single picture.
    modality: "ct" or "mr" where the file says so, else "".
    spacing: millimetres between rows and between columns, or None where unknown.
    group_key: keyed hash of the patient (where unknown, of the series); slices with the same key must stay together. "" where unknown.
    contrast: MR contrast "t1", "t2", "flair" or "pd" where the file's acquisition parameters say so, else "".
    position: millimetres along the slice normal (towards the head for axial slices), or None where unknown.
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
    colour: float = 0.0
