"""What to call the folders and files of a source, so that none of them tells whose head it is (see identity.py)."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline import privacy
from pipeline.parallel import in_parallel
from pipeline.sources.identity import Identity, identity_of, without_zeros
from pipeline.sources.spelling import to_plain_letters

_UID = re.compile(r"(?<!\d)(?<!\d\.)([0-2]\.\d+(\.\d+){3,}|2\.25\.\d{15,})")  # of a study, series or image: scanners name files after them
FILES_PER_TASK = 64


class Names:
    """What to call the folders and files of a source."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Look into the header of every file among `files`."""
        files = list(files)
        tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
        self._everybody = Identity()
        self._telling: dict[tuple[str, bool], bool] = {}
        for identity in in_parallel(_identity_of_files, tasks):
            self._everybody |= identity

    def path(self, place: PurePosixPath) -> PurePosixPath:
        """`place` (modality/... or modality/split/...) with every telling part replaced; the split's own name says nothing of anybody."""
        kept = 2 if len(place.parts) > 2 and place.parts[1] in ("train", "test") else 1
        *folders, name = place.parts[kept:]
        return PurePosixPath(*place.parts[:kept], *map(self._folder, folders), self._file(name))

    def group(self, name: str) -> str:
        """A subject's name, such as in pairs.csv, replaced when it tells who the subject is."""
        return _hashed(name) if self._tells(name) else name

    def _folder(self, name: str) -> str:
        return self.group(_without_identifiers(name))

    def _file(self, name: str) -> str:
        name = _without_identifiers(name)
        suffixes = "".join(PurePosixPath(name).suffixes[-2:]) if name.lower().endswith(".gz") else PurePosixPath(name).suffix
        if not re.fullmatch(r"(\.[A-Za-z]\w{0,4}){0,2}", suffixes) or self._tells(suffixes, file=True):
            suffixes = ""
        own = name.removesuffix(suffixes)
        return _hashed(own) + suffixes if self._tells(own, file=True) else name

    def _tells(self, name: str, *, file: bool = False) -> bool:
        if (name, file) not in self._telling:
            self._telling[name, file] = self._everybody.is_told_by(name, file=file)
        return self._telling[name, file]


def _without_identifiers(name: str) -> str:
    return _UID.sub(lambda found: f"u-{privacy.pseudonym('uid', found.group())[:12]}", name)


def _hashed(name: str) -> str:
    plain = re.sub(r"[-_ ]+", "_", without_zeros(to_plain_letters(name)))  # one writing of a patient, as in patients.py
    return f"p-{privacy.pseudonym('name', plain)[:12]}"


def _identity_of_files(files: list[Path]) -> Identity:
    return functools.reduce(Identity.__or__, map(identity_of, files), Identity())
