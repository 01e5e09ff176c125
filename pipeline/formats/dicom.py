"""DICOM: single pictures, series in a folder, multi-frame and enhanced objects. pydicom is imported with the first of them."""

from pathlib import Path

from pipeline.formats.slices import Slice
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume

NAME = "DICOM"
ENDINGS = (".dcm", ".ima", ".dicom")


def recognises(start: bytes) -> bool:
    """Whether the file has the header that the standard asks for (PS3.10, 7.1)."""
    return start[128:132] == b"DICM"


def read_slices(path: Path) -> list[Slice]:
    """Every frame of the file in its stored order.

    Raises Unreadable: Truncated, NotAxial (sagittal, coronal, localizer), OtherModality, or for what has no picture or is damaged.
    """
    from pipeline.formats import dicom_pixels

    return dicom_pixels.read_frames(path)


def read_volume(path: Path) -> Volume:
    """The volume in a file. Raises UserError as `dicom_series.read_volume`."""
    return read_series(path, [path])


def read_series(folder: Path, files: list[Path]) -> Volume:
    """The volume in the DICOM `files` of one series below `folder`. Raises UserError as `dicom_series.read_volume`."""
    from pipeline.formats import dicom_series

    return dicom_series.read_volume(folder, files)


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write a file for a single picture, else a new folder of files. Raises UserError as `dicom_write.write`."""
    from pipeline.formats import dicom_write

    return dicom_write.write(volume, synthetic, source, target)
