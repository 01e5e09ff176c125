"""The one image reader: a file of any known format becomes slices; whole volumes keep what it takes to write them back."""

from functools import lru_cache
from pathlib import Path

from pipeline.imaging import dicom, nifti, pictures
from pipeline.imaging.formats import kind_of
from pipeline.imaging.slices import NotAxial, OtherModality, Slice, Truncated, Unreadable
from pipeline.imaging.volumes import Volume, read_volume

__all__ = ["NotAxial", "OtherModality", "Slice", "Truncated", "Unreadable", "Volume", "read", "read_slice", "read_volume"]

_READERS = {"picture": pictures.read, "dicom": dicom.read, "nifti": nifti.read}


def read(path: Path) -> list[Slice]:
    """Every slice of the file: in stored order for multi-frame DICOM and TIFF pages, from foot to head for NIfTI.

    Raises Unreadable, a UserError with a `reason` (Truncated, NotAxial, OtherModality say more).
    """
    return _READERS[kind_of(path)](path)


def read_slice(path: Path, frame: int = 0) -> Slice:
    """Slice `frame` of the file, as in `read`. The last file is kept, so that going through a volume reads it once."""
    state = path.stat()
    slices = _kept(path, state.st_mtime_ns, state.st_size)
    if not 0 <= frame < len(slices):
        raise Unreadable(f"{path}: no frame {frame}; it has {len(slices)}")
    return slices[frame]


@lru_cache(maxsize=1)
def _kept(path: Path, changed: int, size: int) -> tuple[Slice, ...]:
    return tuple(read(path))
