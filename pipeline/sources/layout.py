"""Where each file of a foreign tree belongs: by its folders to a modality and, where the source has one, a split.

Two layouts are known, at any depth and in any case: Kaggle's `trainA trainB testA testB` (A = CT, B = MR), and `ct` with `mr` or `mri`,
with `train` and `test` optionally just below or just above them. Folders around that which tell files apart (one per patient, say) are
kept below the modality, so that names need not be unique across them.
"""

import csv
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError

KAGGLE_FOLDERS = {"traina": ("ct", "train"), "trainb": ("mr", "train"), "testa": ("ct", "test"), "testb": ("mr", "test")}
MODALITY_FOLDERS = {"ct": "ct", "mr": "mr", "mri": "mr"}
SPLIT_FOLDERS = ("train", "test")
CONTRASTS = ("t1", "t2", "flair", "pd", "")

_NO_IMAGE = {
    ".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".xml", ".html", ".htm", ".pdf", ".xls", ".xlsx", ".doc", ".docx", ".log", ".ini",
    ".db", ".yaml", ".yml", ".py", ".ipynb", ".bval", ".bvec", ".exe", ".dll", ".inf", ".css", ".js",
}  # fmt: skip
_NO_IMAGE_NAMES = {"dicomdir", "thumbs.db", "license", "readme", "lockfile", "version", "__macosx"}


@dataclass(frozen=True)
class Placed:
    """A file of the source and its place below data/raw."""

    source: Path
    target: PurePosixPath


def place(root: Path, rename: Callable[[PurePosixPath], PurePosixPath] = PurePosixPath) -> list[Placed]:
    """Every image of the tree `root` with its place, in the order of their source paths; the same tree always gives the same list.

    `rename(place)` may change a place (the last say on names is here: no two files share a place, suffix aside). Raises UserError
    when the layout is not known, or a name is not valid Unicode.
    """
    found = []
    for file in sorted(walk(root)):
        known = _sort_in(file.relative_to(root).parts)
        if known is not None:
            found.append((file, *known))
    if not found:
        raise UserError(
            f"no trainA trainB testA testB and no ct and mr folders with images in it; expected one of these, found {_glance(root)}"
        )
    above_all = os.path.commonprefix([above for _, above, _, _ in found])  # noqa: RUF071  # of tuples: folder by folder
    shared = len(above_all)  # so many folders above tell nothing apart
    taken: set[str] = set()
    placed = []
    for file, above, head, below in found:
        target = rename(PurePosixPath(*head, *above[shared:], *below))
        placed.append(Placed(file, _free(target, file, taken)))
    return placed


def copy(placed: list[Placed], folder: Path) -> None:
    """Copy the files to their places below `folder`, in original bytes."""
    for one in placed:
        target = folder / one.target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.source, target)


def copy_pairs(root: Path, placed: list[Placed], folder: Path, rename_group: Callable[[str], str] = str) -> int:
    """Where the tree has a pairs.csv (the topmost counts), write it to `folder` with the files' new places; gives the number of pairs.

    Columns ct and mr (paths relative to the csv's own folder), optionally contrast (t1, t2, flair, pd or empty) and group (subject).
    Raises UserError naming the line of a missing column, unknown file, wrong modality, file named twice or unknown contrast.
    """
    tables = sorted((file for file in walk(root) if file.name.lower() == "pairs.csv"), key=lambda file: (len(file.parts), file))
    if not tables:
        return 0
    table, places = tables[0], {one.source: one.target for one in placed}
    rows: list[dict[str, str]] = []
    used: set[PurePosixPath] = set()
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = {"ct", "mr"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"pairs.csv: no column {' and '.join(sorted(missing))}; expected ct,mr and optionally contrast,group")
            for number, line in enumerate(reader, start=2):
                row = {"contrast": (line.get("contrast") or "").strip().lower(), "group": rename_group((line.get("group") or "").strip())}
                if row["contrast"] not in CONTRASTS:
                    raise UserError(f"pairs.csv line {number}: contrast {row['contrast']!r} is not one of t1, t2, flair, pd or empty")
                for modality in ("ct", "mr"):
                    named = (line[modality] or "").strip()
                    target = places.get(table.parent / named)
                    if target is None or target.parts[0] != modality:
                        raise UserError(f"pairs.csv line {number}: column {modality} names none of the {modality.upper()} images beside it")
                    if target in used:
                        raise UserError(f"pairs.csv line {number}: its {modality.upper()} image is in an earlier line too")
                    used.add(target)
                    row[modality] = target.as_posix()
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"pairs.csv: not a comma-separated table in UTF-8: {error}") from None
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as output:
        writer = csv.DictWriter(output, ["ct", "mr", "contrast", "group"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: (row["ct"], row["mr"])))
    return len(rows)


def walk(root: Path) -> Iterator[Path]:
    """Every plain file below `root`, links followed (each real folder once), hidden files and folders left out."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name.lower() not in _NO_IMAGE_NAMES)
        for name in names:
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield file


def stem(path: PurePosixPath) -> str:
    """The path without its image suffix, of which `.nii.gz` is one: what a slice id is made of."""
    text = path.as_posix()
    return text[: -len(".nii.gz")] if text.lower().endswith(".nii.gz") else text[: len(text) - len(path.suffix)]


def _sort_in(parts: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None:
    """(folders above, (modality[, split]), path below), or None for what belongs to no modality or is no image."""
    name = parts[-1].lower()
    if name in _NO_IMAGE_NAMES or PurePosixPath(name).suffix in _NO_IMAGE:
        return None
    for i, part in enumerate(parts[:-1]):
        if part.lower() in KAGGLE_FOLDERS:
            return parts[:i], KAGGLE_FOLDERS[part.lower()], parts[i + 1 :]
    for i, part in enumerate(parts[:-1]):
        if part.lower() in MODALITY_FOLDERS:
            modality, above, below = MODALITY_FOLDERS[part.lower()], parts[:i], parts[i + 1 :]
            if len(below) > 1 and below[0].lower() in SPLIT_FOLDERS:
                return above, (modality, below[0].lower()), below[1:]
            if above and above[-1].lower() in SPLIT_FOLDERS:
                return above[:-1], (modality, above[-1].lower()), below
            return above, (modality,), below
    return None


def _free(target: PurePosixPath, file: Path, taken: set[str]) -> PurePosixPath:
    """`target`, or beside it a name that no other file has; suffixes do not tell files apart, since slice ids have none."""
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {str(target)!r} is not valid Unicode; rename the file") from None
    base = stem(target)
    suffix = target.as_posix()[len(base) :]
    if base in taken:
        with file.open("rb") as content:
            base = f"{base}-{hashlib.file_digest(content, 'sha256').hexdigest()[:8]}"
    free, count = base, 1
    while free in taken:
        count += 1
        free = f"{base}-{count}"
    taken.add(free)
    return PurePosixPath(free + suffix)


def _glance(root: Path) -> str:
    """How much lies in `root`, for an error message; no names, which may be those of patients."""
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    folders = sum(entry.is_dir() for entry in entries)
    return f"{folders} other folders and {len(entries) - folders} files" if entries else "nothing"
