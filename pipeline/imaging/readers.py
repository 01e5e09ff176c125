"""The one image reader: a file of any known format becomes slices; whole volumes keep what it takes to write them back.

pydicom and nibabel are imported with the first file that needs them: stages that only see pictures start half a second sooner.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.imaging import pictures
from pipeline.imaging.formats import Kind, kind_of
from pipeline.imaging.slices import NotAxial, OtherModality, Slice, Truncated, Unreadable

if TYPE_CHECKING:
    from pipeline.imaging.volumes import Volume

__all__ = ["NotAxial", "OtherModality", "Slice", "Truncated", "Unreadable", "read", "read_slice", "read_volume"]


def read(path: Path) -> list[Slice]:
    """Every slice of the file: in stored order for multi-frame DICOM and TIFF pages, from foot to head for NIfTI.

    Raises Unreadable, a UserError with a `reason` (Truncated, NotAxial, OtherModality say more).
    """
    return _reader(kind_of(path))(path)


def read_slice(path: Path, frame: int = 0) -> Slice:
    """Slice `frame` of the file, as in `read`. The last file is kept, so that going through a volume reads it once."""
    state = path.stat()
    slices = _kept(path, state.st_mtime_ns, state.st_size)
    if not 0 <= frame < len(slices):
        raise Unreadable(f"{path}: no frame {frame}; it has {len(slices)}")
    return slices[frame]


def read_volume(path: Path) -> "Volume":
    """The volume in a NIfTI or DICOM file, a folder with one DICOM series, or a picture file; see volumes.py."""
    from pipeline.imaging import volumes

    return volumes.read_volume(path)


def _reader(kind: Kind) -> Callable[[Path], list[Slice]]:
    if kind == "dicom":
        from pipeline.imaging import dicom

        return dicom.read
    if kind == "nifti":
        from pipeline.imaging import nifti

        return nifti.read
    return pictures.read


@lru_cache(maxsize=1)
def _kept(path: Path, changed: int, size: int) -> tuple[Slice, ...]:
    return tuple(read(path))
