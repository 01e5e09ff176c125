"""Where each file of a foreign tree belongs: to a modality and, where the source has one, a split.

Known layouts, at any depth and in any case:
- Kaggle's `trainA trainB testA testB` (A = CT, B = MR);
- folders `ct` with `mr` or `mri`, with `train` and `test` (or `training`, `testing`) optionally just below or just above them;
- BIDS: `sub-*/[ses-*/]anat/*_T1w...` and `ct/*_ct...`;
- a folder per patient with files called ct and mr (SynthRAD), or whose names begin or end so: `p01/p01_mr.nii.gz`.
Folders around that which tell files apart (one per patient, say) are kept below the modality, so that names need not be unique.
"""

import csv
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline import folders
from pipeline.errors import UserError
from pipeline.sources import patients
from pipeline.sources.places import Place, is_own

KAGGLE_FOLDERS = {"traina": ("ct", "train"), "trainb": ("mr", "train"), "testa": ("ct", "test"), "testb": ("mr", "test")}
MODALITY_WORDS = {"ct": "ct", "mr": "mr", "mri": "mr"}
CONTRAST_WORDS = {"t1": "t1", "t1w": "t1", "mprage": "t1", "t2": "t2", "t2w": "t2", "flair": "flair", "pd": "pd", "pdw": "pd"}
SPLIT_FOLDERS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
LONGEST_NAME = 255  # bytes of a file's name
COLUMNS = ("path", "patient", "contrast")

_NO_IMAGE = {
    ".txt", ".csv", ".tsv", ".json", ".md", ".rst", ".xml", ".html", ".htm", ".pdf", ".xls", ".xlsx", ".doc", ".docx", ".log", ".ini",
    ".db", ".yaml", ".yml", ".py", ".ipynb", ".bval", ".bvec", ".exe", ".dll", ".inf", ".css", ".js", ".tfm", ".mat",
}  # fmt: skip
_NO_IMAGE_NAMES = {"dicomdir", "thumbs.db", "license", "readme", "lockfile", "version", "__macosx", "derivatives"}
# Last words of names of files beside ct and mr that are neither; those of FreeSurfer among them.
_NO_HEAD = {"mask", "cbct", "overview", "seg", "segmentation", "label", "labels", "labelmap"}
_NO_HEAD |= {"aseg", "aparc", "wmparc", "ribbon", "brainmask"}
_CT_NAME = re.compile(r"ct(?=\.(mha|nrrd|nii|nii\.gz|mgz|mgh)$)", re.IGNORECASE)
_HEADERS = (".hdr", ".mhd", ".nhdr")  # text or numbers that describe the voxels in a file of the same name
_VOXELS = (".img", ".raw", ".zraw", ".img.gz", ".raw.gz")


@dataclass(frozen=True)
class Layout:
    """Every image of a tree in its place, and a sentence for a person: what was understood."""

    places: list[Place]
    understood: str


def find(root: Path, rename: Callable[[PurePosixPath], PurePosixPath] = PurePosixPath, pattern: str = patients.AUTO) -> Layout:
    """Every image of the tree `root` with its place, in the order of their source paths; the same tree always gives the same list.

    `rename(place)` may change a place (the last say on names is here: no two files share a place, suffix aside). `pattern`: see
    `patients.tell`. Raises UserError when the layout is not known, or a name is not valid Unicode.
    """
    lost: list[Path] = []
    files = sorted(walk(root, lost))
    found = [(file, *known) for file in files if (known := _sort_in(file.relative_to(root).parts))]
    if not found:
        raise UserError(
            "no trainA trainB testA testB, no ct and mr folders, no files called ct and mr with images in it; expected one of these,"
            f" found {_glance(root)}"
        )
    shared = len(os.path.commonprefix([above for _, _, _, above, _ in found]))  # noqa: RUF071  # of tuples: so many folders tell nothing
    if all(above and is_own(below) for _, _, _, above, below in found):  # of one patient alone, whose folder is the name
        shared = min(shared, *(len(above) - 1 for _, _, _, above, _ in found))
    names = _Names()
    places = []
    for file, modality, split, above, below in found:
        head = (modality, split) if split else (modality,)
        target = names.free(rename(PurePosixPath(*head, *above[shared:], *below)), file)
        contrast = _contrast(below[-1]) if modality == "mr" else ""
        places.append(Place(file, modality, above[shared:], below, target, contrast=contrast))
    places, sentence = patients.tell(places, pattern)
    sorted_in = {place.source for place in places}
    left = [file for file in files if file not in sorted_in and _may_be_image(file.name) and not is_mask(file.name)]
    return Layout(places, "; ".join([sentence, *_describe_left(len(left), len(lost))]))


def copy(layout: Layout, folder: Path) -> None:
    """Copy the files to their places below `folder`, in original bytes, and body masks beside CT files to mask/ under the CT's name."""
    for place in layout.places:
        files = {place.source: folder / place.target}
        mask = place.source.with_name(_CT_NAME.sub("mask", place.source.name))
        if place.modality == "ct" and mask != place.source and mask.is_file():
            files[mask] = folder / mask_of(place.target)
        for source, target in files.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def mask_of(ct: PurePosixPath) -> PurePosixPath:
    """Where the body mask of a CT file lies below data/raw, if its source had one: `mask.mha` beside `ct.mha`, as SynthRAD has them."""
    return PurePosixPath("mask", *ct.parts[1:])


def write_table(rows: Iterable[tuple[str, str, str]], file: Path) -> None:
    """Write CSV with COLUMNS: of files, what is known of them; only those of which something is known."""
    known = sorted(row for row in rows if any(row[1:]))
    if known:
        with file.open("w", newline="", encoding="utf-8") as output:
            csv.writer(output, lineterminator="\n").writerows([COLUMNS, *known])


def read_table(file: Path) -> dict[str, tuple[str, str]]:
    """(patient, contrast) of files by their place in data/raw, as `write_table` wrote them; empty without such a file."""
    return {line["path"]: (line["patient"], line["contrast"]) for line in read_lines(file, COLUMNS)}


def read_lines(file: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The lines of a table of data/raw, which have `columns`; none without such a file. Raises UserError where it is damaged."""
    if not file.exists():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as table:
            reader = csv.DictReader(table)
            lines = list(reader)
            whole = set(columns) <= set(reader.fieldnames or ()) and all(line[column] is not None for line in lines for column in columns)
    except (csv.Error, UnicodeDecodeError):
        whole = False
    if not whole:
        raise UserError(f"{file}: damaged; run dvc repro --force download")
    return lines


def walk(root: Path, lost: list[Path] | None = None) -> Iterator[Path]:
    """Every plain file below `root`, links followed (but not into a folder that they lie in), hidden files and folders left out.

    Links that lead nowhere are added to `lost`.
    """
    for file in folders.walk(root, skip=_NO_IMAGE_NAMES):
        if file.is_file():
            yield file
        elif file.is_symlink() and lost is not None:
            lost.append(file)


def stem(path: PurePosixPath) -> str:
    """The path without its image suffix, of which `.nii.gz` is one: what a slice id is made of."""
    text = path.as_posix()
    packed = re.search(r"(\.(nii|img|raw|mha|nrrd))?\.gz$", text.lower())
    return text[: packed.start()] if packed else text[: len(text) - len(path.suffix)]


def _describe_left(left: int, lost: int) -> Iterator[str]:
    """What is not copied though it may be an image; numbers alone, since names may be those of patients."""
    if left:
        yield f"{left} files left behind, whose path names neither ct nor mr"
    if lost:
        yield f"{lost} links left behind, which lead nowhere"


def _may_be_image(name: str) -> bool:
    return name.lower() not in _NO_IMAGE_NAMES and PurePosixPath(name.lower()).suffix not in _NO_IMAGE


def is_mask(name: str) -> bool:
    words = _words(name)
    return bool(words) and words[-1] in _NO_HEAD


def _sort_in(parts: tuple[str, ...]) -> tuple[str, str, tuple[str, ...], tuple[str, ...]] | None:
    """(modality, split or "", folders above, path below), or None for what belongs to no modality or is no image."""
    if not _may_be_image(parts[-1]):
        return None
    for i, part in enumerate(parts[:-1]):
        if part.lower() in KAGGLE_FOLDERS:
            return *KAGGLE_FOLDERS[part.lower()], parts[:i], parts[i + 1 :]
    for i, part in enumerate(parts[:-1]):
        if part.lower() in MODALITY_WORDS:
            modality, above, below = MODALITY_WORDS[part.lower()], parts[:i], parts[i + 1 :]
            if len(below) > 1 and below[0].lower() in SPLIT_FOLDERS:
                return modality, SPLIT_FOLDERS[below[0].lower()], above, below[1:]
            if above and above[-1].lower() in SPLIT_FOLDERS:
                return modality, SPLIT_FOLDERS[above[-1].lower()], above[:-1], below
            return modality, "", above, below
    return _sort_by_name(parts)


def _sort_by_name(parts: tuple[str, ...]) -> tuple[str, str, tuple[str, ...], tuple[str, ...]] | None:
    """As `_sort_in`, where no folder says the modality: by the first or last word of the file's own name."""
    words = _words(parts[-1])
    if not words or is_mask(parts[-1]):
        return None
    known = {**MODALITY_WORDS, **dict.fromkeys(CONTRAST_WORDS, "mr")}
    modality = known.get(words[-1]) or known.get(words[0])
    if not modality:
        return None
    above, split = parts[:-1], ""
    for i, part in enumerate(above):
        if part.lower() in SPLIT_FOLDERS:
            above, split = above[:i] + above[i + 1 :], SPLIT_FOLDERS[part.lower()]
            break
    return modality, split, above, parts[-1:]


def _contrast(name: str) -> str:
    """The MR contrast that a file's name ends with, or is: `sub-01_T1w.nii.gz`, `flair.mha`."""
    words = _words(name)
    return CONTRAST_WORDS.get(words[-1], "") if words else ""


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", stem(PurePosixPath(name)).lower()) if word]


class _Names:
    """Places that are taken; suffixes do not tell files apart, since slice ids have none."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._of_headers: dict[Path, str] = {}

    def free(self, target: PurePosixPath, file: Path) -> PurePosixPath:
        """`target`, or beside it a name that no other file has. A header and its voxels keep one name."""
        try:
            str(target).encode()
        except UnicodeEncodeError:
            raise UserError(f"the file name {str(target)!r} is not valid Unicode; rename the file") from None
        base = stem(target)
        suffix = target.as_posix()[len(base) :]
        described = Path(stem(PurePosixPath(file)))
        if suffix.lower() in _VOXELS and any(described.with_name(described.name + ending).is_file() for ending in _HEADERS):
            return PurePosixPath(self._of_headers.setdefault(described, base) + suffix)
        if suffix.lower() in _HEADERS and described in self._of_headers:
            return PurePosixPath(self._of_headers[described] + suffix)
        if base in self._taken:
            with file.open("rb") as content:
                base = _append(base, f"-{hashlib.file_digest(content, 'sha256').hexdigest()[:8]}", suffix)
        free, count = base, 1
        while free in self._taken:
            count += 1
            free = _append(base, f"-{count}", suffix)
        self._taken[free] += 1
        if suffix.lower() in _HEADERS:
            self._of_headers[described] = free
        return PurePosixPath(free + suffix)


def _append(base: str, ending: str, suffix: str) -> str:
    """`base` with `ending`; its last part is cut where a disk would not take so long a name with `suffix`."""
    folder, slash, name = base.rpartition("/")
    room = LONGEST_NAME - len((ending + suffix).encode())
    return f"{folder}{slash}{name.encode()[:room].decode(errors='ignore')}{ending}"


def _glance(root: Path) -> str:
    """How much lies in `root`, for an error message; no names, which may be those of patients."""
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    folders = sum(entry.is_dir() for entry in entries)
    return f"{folders} other folders and {len(entries) - folders} files" if entries else "nothing"
