"""Whose head a file shows, as far as its path says it: one patient's files stay in one split.

Names are looked at as they are in data/raw, where those of persons have become hashes (see identity.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.errors import UserError

AUTO = "auto"
FEWEST = 3  # patients that a modality must have for folders that are not named after patients to count as such: one for each split

Path4 = tuple[str, tuple[str, ...], tuple[str, ...], PurePosixPath]  # modality, folders above it, path below it, place in data/raw

_PATIENT = re.compile(r"(p|pat|patient|pt|subj|subject|sub|s|case|id|pid|participant|proband)[-_ ]?\d+\w*|p-[0-9a-f]{12}", re.IGNORECASE)
_PATIENT_FILE = re.compile(
    r"((?:pat|patient|subj|subject|sub|case|pid|participant|proband)[-_ ]?\d+|p-[0-9a-f]{12})(?![0-9a-zA-Z])", re.IGNORECASE
)
_SHORT_FILE = re.compile(r"((?:p|pt|id)[-_ ]?\d+)(?=[-_ ]|\.(nii|mha|mhd|nrrd|nhdr|mgz|mgh|hdr|img)\b)", re.IGNORECASE)
_BIDS = re.compile(r"sub-[0-9a-zA-Z]+")
# Folders that stand for other things than patients, with or without a number.
_OTHER = re.compile(
    r"(images?|imgs?|slices?|scans?|series|stacks?|volumes?|dicom|dcm|nifti|nii|png|jpe?g|tiff?|raw|data|dataset|sets?|batch|part|fold|site|"
    r"centre|center|hospital|scanner|ses|session|visit|day|month|year|axial|brain|head|pelvis|anat|t1w?|t2w?|flair|pdw?|mprage|run|acq)"
    r"[-_ ]?\w{0,4}|\d{1,3}mm|(19|20)\d\d([-_.]?\d\d){0,2}",
    re.IGNORECASE,
)
# Of these, folders in which the same name is the same patient: contrasts, sessions, dates. At two sites it may be another.
_SAME_PATIENT = re.compile(
    r"(t1w?|t2w?|flair|pdw?|mprage|ses|session|visit|day|month|year|run|acq|series|scan)[-_ ]?\w{0,4}|(19|20)\d\d([-_.]?\d\d){0,2}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Told:
    """The patient of each path ("" where nothing says it), and a sentence on what that was read from."""

    patients: list[str]
    sentence: str


def tell(paths: list[Path4], pattern: str = AUTO) -> Told:
    """The patient of each of `paths`.

    `pattern`: a regular expression whose group is the patient, looked for in a file's name, then in its path in data/raw below the
    modality; "none": every file by itself; "auto": BIDS subjects (sub-...), else folders above or below the modality, else names of
    files that begin with a patient's number. Raises UserError for a pattern that fits no file.
    """
    if pattern == "none":
        return Told([""] * len(paths), "patients: not looked for (data.patient = none)")
    if pattern != AUTO:
        return _by_pattern(paths, pattern)
    rules: list[tuple[str, Callable[[Path4], str], bool]] = [
        ("sub-... of BIDS", _bids, True),
        ("folders with files called ct and mr", _own_folder, True),
        ("folders named after patients", _patient_folder, True),
        ("names of files that begin with a patient", _patient_file, True),
        ("folders above or below ct and mr", _any_folder, False),
        ("names of files that begin with a patient", _short_patient_file, False),
    ]
    for name, rule, certain in rules:
        patients = [rule(path) for path in paths]
        if any(patients) and rule is _patient_folder:  # then the other folders at that place are patients as well
            patients = [patient or _any_folder(path) for patient, path in zip(patients, paths, strict=True)]
        if any(patients) and (certain or _enough(paths, patients)):
            return Told(patients, _sentence(patients, name))
    return Told([""] * len(paths), "patients: paths do not tell them (data.patient may: a regular expression)")


def _by_pattern(paths: list[Path4], pattern: str) -> Told:
    expression = re.compile(pattern)
    patients = []
    for _, _, _, place in paths:
        match = expression.search(place.stem) or expression.search("/".join(place.parts[1:]))
        patients.append(match.group(1) or "" if match else "")
    if not any(patients):
        raise UserError(f"data.patient = {pattern}: fits the name of no file; expected an expression with one group, the patient")
    return Told(patients, _sentence(patients, "data.patient"))


def _sentence(patients: list[str], how: str) -> str:
    silent = patients.count("")
    return f"patients: {len(set(patients) - {''})}, told by {how}" + (f"; {silent} files without" if silent else "")


def _enough(paths: list[Path4], patients: list[str]) -> bool:
    """Whether each modality has as many patients as there are splits."""
    by_modality: dict[str, set[str]] = {}
    for (modality, *_), patient in zip(paths, patients, strict=True):
        by_modality.setdefault(modality, set()).add(patient)
    return all(len(names - {""}) >= FEWEST for names in by_modality.values())


def _bids(path: Path4) -> str:
    return next((match.group() for part in path[3].parts if (match := _BIDS.match(part))), "")


def _folders(path: Path4) -> tuple[str, ...]:
    """Folders as data/raw has them, those above the modality first, without the modality and the split."""
    _, above, below, place = path
    count = len(above) + len(below) - 1
    return place.parts[len(place.parts) - 1 - count : -1]


def _own_folder(path: Path4) -> str:
    """`p01/ct.mha` and `p01/mr.mha`: the folder."""
    _, above, below, _ = path
    return "/".join(_folders(path)) if above and is_own(below) else ""


def is_own(below: tuple[str, ...]) -> bool:
    """Whether a path below the modality is a file that is called after it: the folder that it lies in is its patient's."""
    return len(below) == 1 and below[0].split(".")[0].lower() in ("ct", "mr", "mri")


def _patient_folder(path: Path4) -> str:
    """The path to the first folder that is named like a patient: `site1/p03` is not the p03 of site2."""
    folders = _folders(path)
    for i, folder in enumerate(folders):
        if _PATIENT.fullmatch(folder):
            return _key(folders[: i + 1])
    return ""


def _patient_file(path: Path4) -> str:
    match = _PATIENT_FILE.match(path[3].name)
    return _key((*_folders(path), match.group(1))) if match else ""


def _short_patient_file(path: Path4) -> str:
    """`p01_001.png`, `P01.nii.gz`; `p01.png` may be a picture's number."""
    match = _SHORT_FILE.match(path[3].name)
    return _key((*_folders(path), match.group(1))) if match else ""


def _key(folders: tuple[str, ...]) -> str:
    """The name of a patient by the path to the last of `folders`, without those in which the same name is the same patient."""
    *above, own = folders
    return "/".join((*(folder for folder in above if not _SAME_PATIENT.fullmatch(folder)), own))


def _any_folder(path: Path4) -> str:
    """The path to the innermost folder above the modality, else to the first below it, that stands for nothing else."""
    folders, above = _folders(path), len(path[1])
    for i in (*reversed(range(above)), *range(above, len(folders))):
        if not _OTHER.fullmatch(folders[i]):
            return _key(folders[: i + 1])
    return ""
