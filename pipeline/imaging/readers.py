"""The one image reader: a file of any known format becomes slices."""

from pathlib import Path

from pipeline.imaging import pictures
from pipeline.imaging.slices import Slice, Truncated, Unreadable

__all__ = ["Slice", "Truncated", "Unreadable", "read", "read_slice"]


def read(path: Path) -> list[Slice]:
    """Every slice of the file, in order. Raises Unreadable (a UserError with a `reason`), Truncated for a file that ends too early."""
    return pictures.read(path)


def read_slice(path: Path, frame: int = 0) -> Slice:
    """Slice `frame` of the file. Raises Unreadable as `read`, and for a frame that the file does not have."""
    slices = read(path)
    if not 0 <= frame < len(slices):
        raise Unreadable(f"{path}: no frame {frame}; it has {len(slices)}")
    return slices[frame]
