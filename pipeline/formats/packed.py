"""Files packed by gzip, or not, as their bytes say: read to the end, so that the checksum is asked, and never further than they may."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.slices import Truncated, Unreadable, check_unpacked

MAGIC = b"\x1f\x8b"
REST = 2**22  # bytes that may follow the voxels
_CHUNK = 2**20
_ARCHIVES = {b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!\x1a\x07": "RAR", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz",
             b"\x28\xb5\x2f\xfd": "Zstandard", MAGIC: "gzip, twice"}  # fmt: skip
_TAR, _TAR_AT = b"ustar", 257


def read_start(path: Path, length: int) -> bytes:
    """The first bytes of a file's content. Raises Truncated for a packed file that is damaged so early."""
    with unpacked(path) as file:
        return file.read(length)


def is_packed(path: Path) -> bool:
    """Whether the bytes are those of a gzip file."""
    with path.open("rb") as file:
        return file.read(2) == MAGIC


def name_archive(start: bytes) -> str:
    """What made the archive that starts with these bytes (unpacked where gzip packed them); "" where they are those of none."""
    if start[_TAR_AT:].startswith(_TAR):
        return "tar"
    return next((name for mark, name in _ARCHIVES.items() if start.startswith(mark)), "")


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """The content of a file to be read from its start. Raises Truncated in the block where packed data is damaged or ends too early."""
    with path.open("rb") as file:
        packed = file.read(2) == MAGIC
        file.seek(0)
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        except gzip.BadGzipFile as error:
            what = "its checksum is wrong" if "CRC" in str(error) else "damaged packed data"
            raise Truncated(f"{path}: {what}; copy it again") from None
        except (EOFError, zlib.error):
            raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None


def check_stream(path: Path, offset: int, length: int) -> None:
    """Unpack what zlib or gzip packed from byte `offset` on, to its end, keeping nothing: its checksum must hold.

    Raises Truncated where it does not, or where there are fewer than `length` bytes; Unreadable where there are far more.
    """
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    unpacked, rest = 0, b""
    with path.open("rb") as file:
        file.seek(offset)
        try:
            while not unpacker.eof and (rest or (rest := file.read(_CHUNK))):
                unpacked += len(unpacker.decompress(rest, _CHUNK))
                rest = unpacker.unconsumed_tail
                if unpacked > length + REST:
                    raise Unreadable(f"{path}: much longer than its header says; damaged, or no volume")
        except zlib.error:
            raise Truncated(f"{path}: its packed voxels are damaged, by their checksum; copy it again") from None
    if not unpacker.eof or unpacked < length:
        raise Truncated(f"{path}: the file ends too early or is damaged; copy it again")


def read_numbers(file: BinaryIO, path: Path, kind: np.dtype, count: int, offset: int, at: int) -> NDArray[np.generic]:
    """`count` numbers of type `kind` from byte `offset` on; `at` bytes were read already. Reads the file to its end.

    Raises Truncated where there are fewer, Unreadable where far more follows or the unpacked size is out of all proportion.
    """
    length = count * kind.itemsize
    check_unpacked(path, offset // 4 + count)
    if not isinstance(file, gzip.GzipFile) and offset + length > path.stat().st_size:
        raise Truncated(f"{path}: shorter than its header says; copy it again")
    content = file.read(offset - at + length)
    if len(content) < offset - at + length:
        raise Truncated(f"{path}: shorter than its header says; copy it again")
    rest = 0
    while some := len(file.read(_CHUNK)):
        rest += some
        if rest > REST + length:
            raise Unreadable(f"{path}: much longer than its header says; damaged, or no volume")
    return np.frombuffer(content, kind, count, offset - at)
