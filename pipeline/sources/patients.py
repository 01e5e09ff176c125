"""Whose head a file shows, as far as its path says it: one patient's files stay in one split.

Names are looked at as they are in data/raw, where those of persons have become hashes (see identity.py).
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError

AUTO = "auto"
FEWEST = 3  # patients that a modality must have for folders that are not named after patients to count as such: one for each split
MOST_EXAMINATIONS = 10  # folders of a patient, on average; one with more is a centre's, and what lies in it are patients

_PATIENT = re.compile(r"(p|pat|patient|pt|subj|subject|sub|s|case|id|pid|participant|proband)[-_ ]?\d+\w*|p-[0-9a-f]{12}", re.IGNORECASE)
_PATIENT_FILE = re.compile(
    r"((?:pat|patient|subj|subject|sub|case|pid|participant|proband)[-_ ]?\d+|p-[0-9a-f]{12})(?![0-9a-zA-Z])", re.IGNORECASE
)
_SHORT_FILE = re.compile(r"((?:p|pt|id)[-_ ]?\d+)(?=[-_ ]|\.(nii|mha|mhd|nrrd|nhdr|mgz|mgh|hdr|img)\b)", re.IGNORECASE)
_BIDS = re.compile(r"sub-[0-9a-zA-Z]+")
_OWN = "folders with files called ct and mr"
_VOLUME = re.compile(r"\.(nii|mha|mhd|nrrd|nhdr|mgz|mgh|hdr|img)(\.gz)?$", re.IGNORECASE)
_KIND = re.compile(r"ct|mri?|t1w?|t2w?|flair|pdw?|mprage", re.IGNORECASE)  # words of names that tell modality or contrast
# Folders that stand for other things than patients, with or without a number.
_OTHER = re.compile(
    r"(images?|imgs?|slices?|scans?|series|stacks?|volumes?|dicom|dcm|nifti|nii|png|jpe?g|tiff?|raw|data|dataset|sets?|batch|part|fold|site|"
    r"centre|center|hospital|scanner|ses|session|visit|day|month|week|year|baseline|follow|fu|tp|timepoint|pre|post|preop|postop|before|after|"
    r"axial|brain|head|pelvis|anat|t1w?|t2w?|flair|pdw?|mprage|run|acq)[-_ ]?\w{0,4}|\d{1,3}mm|(19|20)\d\d([-_.]?\d\d){0,2}",
    re.IGNORECASE,
)
# Of these, folders around patients in which the same name may be another patient; elsewhere it is the same one.
_SITE = re.compile(r"(site|centre|center|hospital|clinic|scanner|cohort)[-_ ]?\w*", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A file of the source with what its path says: folders above the modality, the path below it, patient and MR contrast ("" unknown).

    `target`: its place in data/raw.
    """

    source: Path
    modality: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    target: PurePosixPath
    patient: str = ""
    contrast: str = ""


def tell(places: list[Place], pattern: str = AUTO) -> tuple[list[str], str]:
    """The patient of each of `places` ("" where nothing says it), and a sentence on what that was read from.

    `pattern`: a regular expression whose group is the patient, looked for in a file's name, then in its path in data/raw below the
    modality; "none": every file by itself; "auto": BIDS subjects (sub-...), else folders above or below the modality, else names of
    files that begin with a patient's number. Raises UserError for a pattern that fits no file.
    """
    if pattern == "none":
        return [""] * len(places), "patients: not looked for (data.patient = none)"
    if pattern != AUTO:
        return _by_pattern(places, pattern)
    around = _count_around(places)
    any_folder = partial(_any_folder, around=around)
    rules: list[tuple[str, Callable[[Place], str], bool]] = [
        ("sub-... of BIDS", _bids, True),
        (_OWN, partial(_own_folder, around=around), True),
        ("folders named after patients", _patient_folder, True),
        ("names of files that begin with a patient", _patient_file, True),
        ("folders above or below ct and mr", any_folder, False),
        ("names of files that begin with a patient", _short_patient_file, False),
        ("names of volumes that recur in several folders", partial(_recurring_file, recurring=_find_recurring(places)), False),
    ]
    for name, rule, certain in rules:
        patients = _one_writing([rule(place) for place in places])
        if any(patients) and rule is _patient_folder:  # then the other folders at that place are patients as well
            patients = _one_writing([patient or any_folder(place) for patient, place in zip(patients, places, strict=True)])
        if any(patients) and name == _OWN:  # so is whatever else lies beside files called ct and mr
            beside = {place.source.parent: patient for place, patient in zip(places, patients, strict=True) if patient}
            patients = [patient or beside.get(place.source.parent, "") for place, patient in zip(places, patients, strict=True)]
        if any(patients) and (certain or _enough(places, patients)):
            return patients, _sentence(patients, name)
    return [""] * len(places), "patients: paths do not tell them (data.patient may: a regular expression)"


def _by_pattern(places: list[Place], pattern: str) -> tuple[list[str], str]:
    expression = re.compile(pattern)
    patients = []
    for place in places:
        match = expression.search(place.target.stem) or expression.search("/".join(place.target.parts[1:]))
        patients.append(match.group(1) or "" if match else "")
    if not any(patients):
        raise UserError(f"data.patient = {pattern}: fits the name of no file; expected an expression with one group, the patient")
    return patients, _sentence(patients, "data.patient")


def _sentence(patients: list[str], how: str) -> str:
    silent = patients.count("")
    return f"patients: {len(set(patients) - {''})}, told by {how}" + (f"; {silent} files without" if silent else "")


def _enough(places: list[Place], patients: list[str]) -> bool:
    """Whether each modality has as many patients as there are splits."""
    by_modality: dict[str, set[str]] = {}
    for place, patient in zip(places, patients, strict=True):
        by_modality.setdefault(place.modality, set()).add(patient)
    return all(len(names - {""}) >= FEWEST for names in by_modality.values())


def _bids(place: Place) -> str:
    return next((match.group() for part in place.target.parts if (match := _BIDS.match(part))), "")


def _folders(place: Place) -> tuple[str, ...]:
    """Folders as data/raw has them, those above the modality first, without the modality and the split."""
    count = len(place.above) + len(place.below) - 1
    return place.target.parts[len(place.target.parts) - 1 - count : -1]


def _own_folder(place: Place, around: int) -> str:
    """`p01/ct.mha` and `p01/mr.mha`: the patient of the folder that the files lie in, however few patients there are."""
    if not (place.above and is_own(place.below)):
        return ""
    return _patient_folder(place) or _any_folder(place, around) or _key(_folders(place))


def is_own(below: tuple[str, ...]) -> bool:
    """Whether a path below the modality is a file that is called after it: the folder that it lies in is its patient's."""
    return len(below) == 1 and below[0].split(".")[0].lower() in ("ct", "mr", "mri")


def _patient_folder(place: Place) -> str:
    """The path to the first folder that is named like a patient: `site1/p03` is not the p03 of site2."""
    folders = _folders(place)
    for i, folder in enumerate(folders):
        if _PATIENT.fullmatch(folder):
            return _key(folders[: i + 1])
    return ""


def _patient_file(place: Place) -> str:
    match = _PATIENT_FILE.match(place.target.name)
    return _key((*_folders(place), match.group(1))) if match else ""


def _short_patient_file(place: Place) -> str:
    """`p01_001.png`, `P01.nii.gz`; `p01.png` may be a picture's number."""
    match = _SHORT_FILE.match(place.target.name)
    return _key((*_folders(place), match.group(1))) if match else ""


def _find_recurring(places: list[Place]) -> set[str]:
    """Names of volumes, modality aside, that are in several folders or modalities: `visit1/ct/A01.nii.gz`, `A01_mr.nii.gz`."""
    seen: dict[str, set[tuple[str, PurePosixPath]]] = {}
    for place in places:
        seen.setdefault(_own_name(place), set()).add((place.modality, place.target.parent))
    return {name for name, found in seen.items() if len(found) > 1} - {""}


def _own_name(place: Place) -> str:
    """A volume's name without the words for modality and contrast; "" for names that stand for something else, and for mere numbers."""
    end = _VOLUME.search(place.target.name)
    words = re.split(r"[-_ .]+", place.target.name[: end.start()]) if end else []
    name = "_".join(word for word in words if word and not _KIND.fullmatch(word))
    return name if re.search(r"[^\W\d_]", name) and not _OTHER.fullmatch(name) else ""


def _recurring_file(place: Place, recurring: set[str]) -> str:
    name = _own_name(place)
    return _key((*_folders(place), name)) if name in recurring else ""


def _key(folders: tuple[str, ...]) -> str:
    """The name of a patient by the path to the last of `folders`: the sites around it, and its own name."""
    *above, own = folders
    return "/".join((*(folder for folder in above if _SITE.fullmatch(folder)), own))


def _any_folder(place: Place, around: int) -> str:
    """The first folder that stands for nothing else, above the modality but for those `around` patients, else below it."""
    folders = _folders(place)
    for i in range(min(around, max(len(place.above) - 1, 0)), len(folders)):
        if not _OTHER.fullmatch(folders[i]):
            return _key(folders[: i + 1])
    return ""


def _count_around(places: list[Place]) -> int:
    """How many folders above the modality lie around those of patients.

    Of `Anna/first/ct` and `first/Anna/ct`, where names recur, there are more patients than names of examinations. Where they do not
    recur (`Anna/12345`, `Vienna/12345`), a folder with many others is none of a patient's.
    """
    around = 0
    while True:
        deeper = [(place.modality, _folders(place)[: around + 2]) for place in places if len(place.above) > around + 1]
        if not deeper:
            return around
        counts = []
        for modality in {modality for modality, _ in deeper}:
            pairs = {folders[around:] for kind, folders in deeper if kind == modality}
            outer, inner = ({pair[i] for pair in pairs if not _OTHER.fullmatch(pair[i])} for i in (0, 1))
            most = len(inner) if len(inner) < len(pairs) else len(pairs) / MOST_EXAMINATIONS
            counts.append(len(outer) >= FEWEST and len(outer) > most)
        if all(counts) or not any(_OTHER.fullmatch(folders[around]) is None for _, folders in deeper):
            return around
        around += 1


def _one_writing(patients: list[str]) -> list[str]:
    """Names that differ only in case, spaces, leading zeros or how accents are stored become one, as it comes first."""
    first: dict[str, str] = {}
    return [first.setdefault(_plain(patient), patient) for patient in patients]


def _plain(patient: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)|[-_ ]+", "", unicodedata.normalize("NFKC", patient).casefold())
