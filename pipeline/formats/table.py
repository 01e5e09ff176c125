"""Every format that is read and written. A new format is one file like nifti.py and one line in FORMATS.

What a file is follows from its bytes, never from its name. A format imports its library (pydicom, nibabel, ...) with the first file that
needs it, so that a stage which only sees pictures starts half a second sooner.
"""

import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from pipeline.formats import dicom, nifti, pictures
from pipeline.formats.slices import Slice, Truncated, Unreadable
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume

START = 1024  # bytes that a format is recognised by


class Format(Protocol):
    """What a format's module offers."""

    NAME: str  # for people
    ENDINGS: tuple[str, ...]  # of the names of its files, lower case; the first is that of a new file

    @staticmethod
    def recognises(start: bytes) -> bool:
        """Whether a file that starts with these bytes, unpacked where gzip packed them, is of this format."""

    @staticmethod
    def read_slices(path: Path) -> list[Slice]:
        """Every slice of a file. Raises Unreadable."""

    @staticmethod
    def read_volume(path: Path) -> Volume:
        """The volume in a file. Raises Unreadable."""

    @staticmethod
    def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
        """Write `synthetic` in the geometry of `volume`, which was read from `source`; gives the path written. Raises UserError."""


# The first that recognises a file reads it. DICOM first: the 128 bytes before its mark may be the start of a TIFF (PS3.10, 7.1).
FORMATS: tuple[Format, ...] = (dicom, nifti, pictures)  # type: ignore[assignment]


def recognise(path: Path) -> Format:
    """The format of a file. Raises Unreadable for an empty file, for one of zeros, and for what is none of the known formats."""
    start = _start(path)
    for format_ in FORMATS:
        if format_.recognises(start):
            return format_
    name = path.name.lower()
    for format_ in FORMATS:  # its reader says what is wrong
        if name.endswith(format_.ENDINGS):
            return format_
    return dicom  # type: ignore[return-value]  # may lack the header that the standard asks for: its reader decides


def read_slices(path: Path) -> list[Slice]:
    """Every slice of the file: in stored order for multi-frame DICOM and TIFF pages, from foot to head for NIfTI.

    Raises Unreadable, a UserError with a `reason` (Truncated, NotAxial, OtherModality say more).
    """
    return recognise(path).read_slices(path)


def read_slice(path: Path, frame: int = 0) -> Slice:
    """Slice `frame` of the file, as in `read_slices`. The last file is kept, so that going through a volume reads it once."""
    state = path.stat()
    slices = _read_once(path, state.st_mtime_ns, state.st_size)
    if not 0 <= frame < len(slices):
        raise Unreadable(f"{path}: no frame {frame}; it has {len(slices)}")
    return slices[frame]


def read_volume(path: Path) -> Volume:
    """The volume in a NIfTI file, a DICOM file (single, multi-frame or enhanced), a folder with one DICOM series, or a picture file.

    Raises UserError: Unreadable for damaged files; for a folder without DICOM files or with several series of the same length, and for a
    series with several pictures in one place (echoes, time points), since that is no single volume.
    """
    if not path.is_dir():
        return recognise(path).read_volume(path)
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    return dicom.read_series(path, [file for file in files if _is_dicom(file)])


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write `synthetic`, which was made from `volume`, in the format of `source`, to `target`; gives the path written.

    Raises UserError when the name of `target` asks for another kind of file than the source is.
    """
    return named(volume.format).write(volume, synthetic, source, target)


def named(name: str) -> Format:
    """The format called `name`. Raises KeyError for another name."""
    return {format_.NAME: format_ for format_ in FORMATS}[name]


def endings() -> tuple[str, ...]:
    """The endings of the names of files of every format."""
    return tuple(ending for format_ in FORMATS for ending in format_.ENDINGS)


def _is_dicom(path: Path) -> bool:
    try:
        return recognise(path).NAME == dicom.NAME
    except Unreadable:
        return False


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(START)
    if not start:
        raise Unreadable(f"{path}: an empty file")
    if not start.startswith(b"\x1f\x8b"):
        # pydicom would look for an element through all of a file of zeros, for minutes in one of gigabytes.
        if not any(start):
            raise Unreadable(f"{path}: starts with zeros only, as a file whose copying was cut off; copy it again")
        return start
    try:
        with gzip.open(path) as packed:
            return packed.read(START)
    except (OSError, EOFError, zlib.error):
        raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None


@lru_cache(maxsize=1)
def _read_once(path: Path, changed: int, size: int) -> tuple[Slice, ...]:
    return tuple(read_slices(path))
