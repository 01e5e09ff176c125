"""Which patient a file's name tells: by a word such as patient_7, by a beginning that several files share, or by recurring elsewhere."""

import re
from pathlib import PurePosixPath

from pipeline.sources.places import OTHER, Place, folders_of, key_of

FEWEST = 3  # patients that a modality must have for names that are no patients' by their word to count as such: one for each split
SLICES_OF_A_PATIENT = 1.5  # pictures whose names begin alike, on average, at the least

_PATIENT_FILE = re.compile(
    r"(?<![0-9a-zA-Z])((?:pat|patient|subj|subject|sub|case|pid|participant|proband)[-_ ]?\d+|p-[0-9a-f]{12}"
    r"|\d{3}_S_\d{4}|TCGA-\w\w-\w{4})(?![0-9a-zA-Z])",  # of ADNI and TCGA, where the first number is a centre's
    re.IGNORECASE,
)
_SHORT_FILE = re.compile(r"(?<![0-9a-zA-Z])((?:p|pt|id)[-_ ]?\d+)(?=[-_ ]|\.(nii|mha|mhd|nrrd|nhdr|mgz|mgh|hdr|img)\b)", re.IGNORECASE)
_VOLUME = re.compile(r"\.(nii|mha|mhd|nrrd|nhdr|mgz|mgh|hdr|img)(\.gz)?$", re.IGNORECASE)
_PICTURE = re.compile(r"\.(png|jpe?g|tiff?|bmp)$", re.IGNORECASE)
_DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?\d\d[-_.]?\d\d(\d{6})?(?!\d)")
_VISIT = re.compile(r"(v|r|tp|visit|run|ses)\d{1,2}", re.IGNORECASE)
_KIND = re.compile(r"ct|mri?|t1w?|t2w?|flair|pdw?|mprage", re.IGNORECASE)  # words of names that tell modality or contrast


def patient_file(place: Place) -> str:
    match = _PATIENT_FILE.search(place.target.name)
    return key_of((*folders_of(place), match.group(1))) if match else ""


def short_patient_file(place: Place) -> str:
    """`p01_001.png`, `brain_P01.nii.gz`; `p01.png` may be a picture's number."""
    match = _SHORT_FILE.search(place.target.name)
    return key_of((*folders_of(place), match.group(1))) if match else ""


def beginning(place: Place, lengths: dict[str, int]) -> str:
    """The first words of a name, up to one with a number and perhaps more: `001_05.png`, `K1A_preop_T1.nii.gz`; a picture's last word is
    its own number."""
    words, last = _telling_words(place)
    numbered = next((i for i, (_, word) in enumerate(words) if re.search(r"\d", word)), None)
    if numbered is None or not (length := lengths.get(place.modality, 0)):
        return ""
    told = words[: numbered + length]
    if len(told) < numbered + length or (_PICTURE.search(place.target.name) and told[-1][0] == last):
        return ""
    return key_of((*folders_of(place), "_".join(word for _, word in told)))


def find_beginnings(places: list[Place]) -> dict[str, int]:
    """By modality, how many words tell a patient from the first with a number on: so many that there are patients enough.

    Empty where files do not share beginnings, and so where each may be a patient's or none.
    """
    lengths: dict[str, int] = {}
    told: list[str] = []
    for modality in sorted({place.modality for place in places}):
        for length in (1, 2, 3):
            patients = [patient for place in places if (patient := beginning(place, {modality: length}))]
            if len(set(patients)) >= FEWEST:
                lengths[modality] = length
                told += patients
                break
    pictures = any(_PICTURE.search(place.target.name) for place in places)
    return lengths if len(told) > (SLICES_OF_A_PATIENT if pictures else 1) * len(set(told)) else {}


def _telling_words(place: Place) -> tuple[list[tuple[int, str]], int]:
    """The words of a picture's or volume's name that may tell a patient, each with its place in the name, and the last place."""
    end = _VOLUME.search(place.target.name) or _PICTURE.search(place.target.name)
    name = _DATE.sub("date", place.target.name[: end.start()]) if end else ""
    words = [word for word in re.split(r"[-_ .]+", name) if word and not _KIND.fullmatch(word)]
    telling = [(i, word) for i, word in enumerate(words) if not (OTHER.fullmatch(word) or word == "date" or (i and _VISIT.fullmatch(word)))]
    return telling, len(words) - 1


def find_recurring(places: list[Place]) -> set[str]:
    """Names of volumes, modality aside, that are in several folders or modalities: `visit1/ct/A01.nii.gz`, `A01_mr.nii.gz`."""
    seen: dict[str, set[tuple[str, PurePosixPath]]] = {}
    for place in places:
        seen.setdefault(own_name(place), set()).add((place.modality, place.target.parent))
    return {name for name, found in seen.items() if len(found) > 1} - {""}


def own_name(place: Place) -> str:
    """A volume's name without the words for modality and contrast; "" for names that stand for something else, and for mere numbers."""
    end = _VOLUME.search(place.target.name)
    words = re.split(r"[-_ .]+", place.target.name[: end.start()]) if end else []
    words = [word for word in words if word and not _KIND.fullmatch(word)]
    while len(words) > 1 and (OTHER.fullmatch(words[-1]) or _VISIT.fullmatch(words[-1])):
        words.pop()
    name = "_".join(words)
    return name if re.search(r"[^\W\d_]", name) and not OTHER.fullmatch(name) else ""


def recurring_file(place: Place, recurring: set[str]) -> str:
    name = own_name(place)
    return key_of((*folders_of(place), name)) if name in recurring else ""
