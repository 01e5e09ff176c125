"""Unpack zip and tar archives from strangers: nothing outside the folder, no links, no devices, no bombs, no damaged content.

Limits: at most `MAX_FILES` entries and `MAX_BYTES` in all, and at most `MAX_RATIO` times the archive's own size once more than
`FREE_BYTES` came out of it (blank images pack well, so a small archive may expand further). Sizes are counted while unpacking; what an
archive's directory claims is not trusted.
"""

import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, TypeVar, cast

from pipeline.errors import UserError

MAX_FILES = 1_000_000
MAX_BYTES = 100 * 2**30
MAX_RATIO = 100
FREE_BYTES = 256 * 2**20

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

T = TypeVar("T")
_CHUNK = 2**20
_BY_HAND = "unpack it yourself and give the folder instead"
# What the standard library raises on damaged archives; each becomes one line that names the archive.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, struct.error,
    EOFError, ValueError, OverflowError, KeyError, IndexError, NotImplementedError, RuntimeError, OSError,
)  # fmt: skip


def extract(archive: Path, folder: Path) -> int:
    """Unpack `archive` (zip, or tar with gzip, bzip2 or xz) into the existing `folder`; gives the number of files.

    Raises UserError when it is no archive, is damaged or encrypted, holds an absolute or `..` path, a link, a device or a name twice, or
    goes over the limits above. Messages count files and do not name them, since their names may be those of patients.
    What was unpacked until then stays in `folder`: give it a temporary one.
    """
    if not archive.exists():
        raise UserError(f"{archive}: not found")
    entries = _zip_entries if _is_zip(archive) else _tar_entries
    allowed = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * archive.stat().st_size))
    written = 0
    files = 0
    for name, stream in entries(archive):
        target = folder / _inside(archive, name)
        files += 1
        if files > MAX_FILES:
            raise UserError(f"{archive}: more than {MAX_FILES} files; {_BY_HAND}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            output = target.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UserError(f"{archive}: its file {files} is there twice, or as file and folder; {_BY_HAND}") from None
        except OSError:
            if target.name and len(target.name.encode()) > 255:
                raise UserError(f"{archive}: the name of its file {files} is too long for this disk") from None
            raise
        with output:
            while chunk := _guarded(archive, stream.read, _CHUNK):
                written += len(chunk)
                if written > allowed:
                    raise UserError(
                        f"{archive}: unpacks to more than {allowed / 2**20:.0f} MiB ({MAX_RATIO} times its size, at most"
                        f" {MAX_BYTES / 2**30:.0f} GiB), which looks like an archive bomb; if it is sound, {_BY_HAND}"
                    )
                output.write(chunk)
    return files


def _is_zip(archive: Path) -> bool:
    try:
        return zipfile.is_zipfile(archive)
    except (struct.error, ValueError, OverflowError):
        return False


def _guarded(archive: Path, read: Callable[..., T], *arguments: object) -> T:
    """What `read` gives; whatever the archive's parsers raise there means that it is damaged."""
    try:
        return read(*arguments)
    except _DAMAGE as error:
        if isinstance(error, RuntimeError) and "password" in str(error):
            raise UserError(f"{archive}: encrypted; {_BY_HAND}") from None
        raise UserError(f"{archive}: damaged or truncated archive ({type(error).__name__}); download or copy it again") from None


def _zip_entries(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with _guarded(archive, zipfile.ZipFile, archive) as opened:
        for number, entry in enumerate(opened.infolist(), 1):
            kind = entry.external_attr >> 28  # the Unix file type, where the archiver kept one: 8 file, 4 folder, 10 link
            if kind not in (0, 4, 8):
                raise UserError(f"{archive}: its entry {number} is a link or device; only plain files and folders are accepted")
            _inside(archive, entry.filename)
            if not entry.is_dir():
                with _guarded(archive, opened.open, entry) as stream:
                    yield entry.filename, stream


def _tar_entries(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with archive.open("rb") as packed:
        file = cast(IO[bytes], _Sober(_unpacked(packed), archive))
        try:
            opened = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # closes with the file below it
        except _DAMAGE:
            what = "neither a zip nor a tar archive, or damaged" if archive.stat().st_size else "an empty file"
            raise UserError(f"{archive}: {what}; expected one of {' '.join(SUFFIXES)}; download or copy it again") from None
        number = 0
        while (entry := _guarded(archive, opened.next)) is not None:
            number += 1
            if not (entry.isreg() or entry.isdir()):
                raise UserError(f"{archive}: its entry {number} is a link or device; only plain files and folders are accepted")
            _inside(archive, entry.name)
            if entry.isreg():
                stream = _guarded(archive, opened.extractfile, entry)
                assert stream is not None
                yield entry.name, stream
            opened.members.clear()  # type: ignore[attr-defined]  # a tar with many entries would otherwise be kept in memory
        file.seek(opened.offset)  # where tarfile saw no further entry: at a damaged header or early end too, without a word
        if _guarded(archive, file.read, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise UserError(f"{archive}: damaged or truncated archive (no end mark); download or copy it again")


def _unpacked(packed: IO[bytes]) -> IO[bytes]:
    """The plain tar inside; tarfile would do this too, but leaves no place for `_Sober` in between."""
    start = packed.read(6)
    packed.seek(0)
    openers: dict[bytes, Callable[[IO[bytes]], object]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
    return next((cast(IO[bytes], opener(packed)) for mark, opener in openers.items() if start.startswith(mark)), packed)


class _Sober:
    """A file that refuses a huge read: the extended headers of a tar, which are read whole, may claim any size."""

    def __init__(self, file: IO[bytes], archive: Path) -> None:
        self._file, self._archive = file, archive
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 16 * _CHUNK:
            raise UserError(f"{self._archive}: damaged archive (a header of {size} bytes); download or copy it again")
        return self._file.read(size)


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The relative path that `name` stands for; both kinds of slash separate, as some Windows archivers write backslashes."""
    path = PurePosixPath(name.replace("\\", "/"))
    odd = ".." in path.parts or "\0" in name or (not path.parts and name not in (".", "./"))
    if odd or path.is_absolute() or PureWindowsPath(name).drive:
        raise UserError(f"{archive}: a path in it points outside of the archive; refused, since it could overwrite other files")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{archive}: a file name in it is not valid Unicode; pack it again with UTF-8 names") from None
    return path
