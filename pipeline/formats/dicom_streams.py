"""Do compressed DICOM pictures have the size that the header says? Asked before a decoder is let at them.

A damaged stream may claim 65535 × 65535 pixels, for which a decoder takes minutes and gigabytes, and pydicom 3.0 walks for ever over
JPEG 2000 boxes without a length. On damaged run lengths pylibjpeg prints a stack trace of its own.
"""

import struct
from collections.abc import Collection

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes, RLELossless

_JP2 = b"\x00\x00\x00\x0cjP  "  # what a JPEG 2000 file starts with; DICOM wants the bare codestream, which not all writers know
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # of the markers C0 to CF, those that start no frame (ITU-T T.81, table B.1)


def check(dataset: Dataset, frames: Collection[int], count: int) -> None:
    """Raises ValueError when the stream of one of `frames` (of `count`) has another size than the header says, or none."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        for index, stream in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
            if index in frames and not _runs_fill(stream, int(dataset.Rows) * int(dataset.Columns)):
                raise ValueError("the runs of a compressed picture do not fill it")
        return
    size_of = _j2k_size if syntax in JPEG2000TransferSyntaxes else _jpeg_size
    if syntax not in (*JPEG2000TransferSyntaxes, *JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes):
        return
    for index, stream in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
        if index in frames and size_of(stream) != (dataset.Rows, dataset.Columns):
            raise ValueError("the compressed picture has another size than the header says")


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.1)."""
    place = 2
    while place + 9 <= len(stream):
        if stream[place] != 0xFF:
            return None
        marker = stream[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == 0xF7:
            return int.from_bytes(stream[place + 5 : place + 7], "big"), int.from_bytes(stream[place + 7 : place + 9], "big")
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None


def _j2k_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG 2000 codestream, bare or in boxes (ISO/IEC 15444-1 A.5.1, I.4)."""
    start = 0
    if stream.startswith(_JP2):
        start = 12
        while stream[start + 4 : start + 8] != b"jp2c":
            length = int.from_bytes(stream[start : start + 4], "big")
            if length < 8 or start >= len(stream):
                return None
            start += length
        start += 8
    if stream[start : start + 4] != b"\xff\x4f\xff\x51":
        return None
    columns, rows, left, top = (int.from_bytes(stream[start + place : start + place + 4], "big") for place in (8, 12, 16, 20))
    return rows - top, columns - left


def _runs_fill(stream: bytes, pixels: int) -> bool:
    """Whether each segment of an RLE frame unpacks to just so many bytes (PS3.5 G.3 to G.5)."""
    count, *offsets = struct.unpack("<16L", stream[:64])
    ends = [*offsets[1:count], len(stream)]
    return 0 < count <= 15 and all(_unpacked(stream[start:end], pixels) == pixels for start, end in zip(offsets, ends, strict=False))


def _unpacked(segment: bytes, enough: int) -> int:
    """Bytes that a run-length coded segment unpacks to, counted until there are `enough`; 0 where it ends within a run."""
    place = total = 0
    while place < len(segment) and total < enough:
        length = segment[place]
        if length < 128:  # so many bytes and one more as they are
            total += length + 1
            place += length + 2
        else:  # the next byte so often; 128 does nothing
            total += 257 - length if length > 128 else 0
            place += 2 if length > 128 else 1
    return total if place <= len(segment) else 0
