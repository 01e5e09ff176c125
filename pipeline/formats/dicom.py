"""DICOM: single pictures, series in a folder, multi-frame and enhanced objects. pydicom is imported with the first of them."""

from pathlib import Path

from pipeline.formats.slices import LIMITS, Limits, Slice
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume

NAME = "DICOM"
START = 4096  # bytes that a file is recognised by
ENDINGS = (".dcm", ".ima", ".dicom")
_VRS = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"OB", b"OW", b"PN", b"SH", b"SL", b"SQ", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"UN", b"US", b"UT",
}  # fmt: skip


def recognises(start: bytes) -> bool:
    """Whether the file has the header that the standard asks for (PS3.10, 7.1), or starts with the first element of a dataset without."""
    if start[128:132] == b"DICM":
        return True
    explicit = start[4:6] in _VRS
    group = start[:2] in (b"\x02\0", b"\x08\0") and start[3:4] == b"\0"
    implicit = group and int.from_bytes(start[4:8], "little") <= len(start)
    return (group and (explicit or implicit)) or (start[:3] == b"\0\x08\0" and explicit)


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does."""
    with path.open("rb") as content:
        return recognises(content.read(START))


def read_slices(path: Path, limits: Limits = LIMITS) -> list[Slice]:
    """Every frame of the file in its stored order.

    Raises Unreadable: Truncated, NotAxial (sagittal, coronal, localizer), OtherModality, or for what has no picture or is damaged.
    """
    from pipeline.formats import dicom_pixels

    return dicom_pixels.read_slices(path, limits)


def read_volume(path: Path, limits: Limits = LIMITS) -> Volume:
    """The volume in a file. Raises UserError as `dicom_series.read_volume`."""
    return read_series(path, [path], limits)


def read_series(folder: Path, files: list[Path], limits: Limits = LIMITS) -> Volume:
    """The volume in the DICOM `files` of one series below `folder`. Raises UserError as `dicom_series.read_volume`."""
    from pipeline.formats import dicom_series

    return dicom_series.read_volume(folder, files, limits)


def check_target(volume: Volume, source: Path, target: Path) -> None:
    """Raises UserError where a series would be written over something."""
    from pipeline.formats import dicom_write

    dicom_write.check_target(volume, source, target)


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write a file for a single picture, else a new folder of files."""
    from pipeline.formats import dicom_write

    return dicom_write.write(volume, synthetic, source, target)
