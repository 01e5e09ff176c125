"""data/raw/source.json: which data this is, written by download and read by whoever names it; and the news that a source may have."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline import atomic, paths
from pipeline.errors import UserError


@dataclass(frozen=True)
class Fetched:
    """What a source says of the data that it brought.

    `title` names it for people, the version included. `version` None: its digest is its version. `pinned`: the same title stands for the
    same bytes for ever. `facts` are the source's own, as JSON.
    """

    title: str
    version: str | int | None = None
    simulated: bool = False
    pinned: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """What is known of the data in data/raw. `sha256`: see `digest`; `counts`: files of each modality; `facts` are the source's own."""

    source: str
    title: str
    version: str | int
    sha256: str
    counts: dict[str, int]
    simulated: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "Provenance":
        """From the content of a source.json. Raises KeyError when a field is missing."""
        own = {name.name for name in fields(cls)} - {"facts"}
        return cls(**{name: content[name] for name in own}, facts={key: content[key] for key in content if key not in own})

    def write(self, file: Path) -> None:
        content = asdict(self)
        atomic.write_json(file, {**content.pop("facts"), **content})

    def __str__(self) -> str:
        """For a line of text: the title and how many images there are."""
        return f"{self.title}: {' and '.join(f'{count} {modality.upper()}' for modality, count in sorted(self.counts.items()))} files"


@dataclass(frozen=True)
class News:
    """Whether a source has something that is not in use yet, in a sentence, and the params by which download would bring it."""

    new: bool
    sentence: str
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_comparison(cls, title: str, used: Provenance | None, same: bool) -> "News":
        """Of a source without versions, which has the `same` as the data in use, or something else."""
        state = "has images, none in use yet" if used is None else "is unchanged" if same else "has changed"
        return cls(not same, f"{title} {state}")


def read(file: Path = paths.SOURCE_JSON) -> Provenance | None:
    """Content of a source.json; None where there is none: data/raw is not on this machine. Raises UserError when it is damaged."""
    try:
        return Provenance.parse(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: damaged; run dvc repro --force download") from None


def digest(folder: Path) -> str:
    """SHA-256 over the sorted (path, SHA-256) of every file in `folder` but source.json: the identity of a data set."""
    whole = hashlib.sha256()
    for path in sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()):
        if path != paths.SOURCE_JSON.name:
            with (folder / path).open("rb") as content:
                whole.update(f"{path}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
