"""What a file is, by its first bytes and not by its name."""

import gzip
import zlib
from pathlib import Path
from typing import Literal

from pipeline.imaging.slices import Truncated, Unreadable

Kind = Literal["picture", "dicom", "nifti"]

_PICTURES = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_NIFTI_SIZES = {(348).to_bytes(4, order) for order in ("little", "big")} | {(540).to_bytes(4, order) for order in ("little", "big")}  # type: ignore[arg-type]


def kind_of(path: Path) -> Kind:
    """Raises Unreadable for an empty file, for one of zeros, and for what is none of the known formats."""
    with path.open("rb") as file:
        start = file.read(132)
    if not start:
        raise Unreadable(f"{path}: an empty file")
    if start[128:] == b"DICM":
        return "dicom"
    if not any(start):  # pydicom would look for an element through all of it, for minutes in a file of gigabytes
        raise Unreadable(f"{path}: starts with zeros only, as a file whose copying was cut off; copy it again")
    if start.startswith(_PICTURES):
        return "picture"
    if start.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                start = packed.read(4)
        except (OSError, EOFError, zlib.error):
            raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None
    if start[:4] in _NIFTI_SIZES:
        return "nifti"
    name = path.name.lower()
    if name.endswith((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")):
        return "picture"
    if name.endswith((".nii", ".nii.gz")):
        return "nifti"
    return "dicom"  # may lack the header that the standard asks for: its reader decides
