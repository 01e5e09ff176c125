"""data/raw with thousands of files, in packs: DVC looks at every file of a folder for every stage that reads it.

Packs are plain zip archives below packs/, not compressed, as images are already. Files in the order of their paths go into one pack until
one comes whose path says "begin anew" (so many on average: EACH). Files that are added or removed thus change the packs beside them only,
and DVC stores and sends only these.
"""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import atomic
from pipeline.errors import UserError

PACK_ABOVE = 5_000  # files; below, they lie as they came, for a person to look at
EACH = 512
LARGEST = 256 * 2**20  # bytes after which a pack ends all the same
FOLDER = "packs"
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows: same files, same bytes


def pack(folder: Path) -> None:
    """Put the files of the subfolders of `folder` into packs, where there are more than PACK_ABOVE; those beside them stay."""
    places = [place for place in folder.iterdir() if place.is_dir()]
    files = sorted(file for place in places for file in place.rglob("*") if file.is_file())
    if len(files) <= PACK_ABOVE:
        return
    (folder / FOLDER).mkdir()
    for number, part in enumerate(_cut(folder, files)):
        with zipfile.ZipFile(folder / FOLDER / f"{number:05d}.zip", "x") as archive:
            for file in part:
                about = zipfile.ZipInfo(file.relative_to(folder).as_posix(), _TIME)
                about.file_size = file.stat().st_size  # tells zip whether it needs large numbers
                with archive.open(about, "w") as packed, file.open("rb") as content:
                    shutil.copyfileobj(content, packed)
                file.unlink()
    for place in places:
        shutil.rmtree(place)


@contextmanager
def unpacked(raw: Path) -> Iterator[Path]:
    """`raw` with its files as they came: itself where nothing is packed, else a hidden folder beside it, removed at the end.

    Raises UserError where a pack is damaged.
    """
    packs = sorted((raw / FOLDER).glob("*.zip"))
    if not packs:
        yield raw
        return
    with atomic.scratch_folder(raw.parent, raw.name) as folder:
        for file in packs:
            try:
                with zipfile.ZipFile(file) as archive:
                    archive.extractall(folder)
            except (zipfile.BadZipFile, EOFError):
                raise UserError(f"{file}: damaged; dvc checkout --force {raw} brings it back from DVC's cache") from None
        for file in raw.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        yield folder


def _cut(folder: Path, files: list[Path]) -> Iterator[list[Path]]:
    part: list[Path] = []
    size = 0
    for file in files:
        digest = hashlib.sha256(file.relative_to(folder).as_posix().encode()).digest()
        if part and (int.from_bytes(digest[:4]) % EACH == 0 or size > LARGEST):
            yield part
            part, size = [], 0
        part.append(file)
        size += file.stat().st_size
    yield part
