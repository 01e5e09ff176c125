"""Whose head a file shows, as far as its path says it: one patient's files stay in one split.

Names are looked at as they are in data/raw, where those of persons have become hashes (see identity.py).
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from pipeline.errors import UserError
from pipeline.sources import file_names
from pipeline.sources.file_names import FEWEST
from pipeline.sources.places import OTHER, Place, folders_of, is_own, key_of

AUTO = "auto"
MOST_EXAMINATIONS = 10  # folders of a patient, on average; one with more is a centre's, and what lies in it are patients

_PATIENT = re.compile(r"(p|pat|patient|pt|subj|subject|sub|s|case|id|pid|participant|proband)[-_ ]?\d+\w*|p-[0-9a-f]{12}", re.IGNORECASE)
_BIDS = re.compile(r"sub-[0-9a-zA-Z]+")
_OWN = "folders with files called ct and mr"
_BEGIN = "beginnings of names of files"
# What it is called, the patient of a place, and when it is believed: alone (True), where all modalities have patients enough (False), or
# for each modality that has (None).
Rule = tuple[str, Callable[[Place], str], bool | None]


def tell(places: list[Place], pattern: str = AUTO) -> tuple[list[Place], str]:
    """`places` with their patients ("" where nothing says it), and a sentence on what that was read from.

    `pattern`: a regular expression whose group is the patient, looked for in a file's name, then in its path in data/raw below the
    modality; "none": every file by itself; "auto": BIDS subjects (sub-...), else folders above or below the modality, else names of
    files that name a patient, recur, or begin alike. What one rule does not tell may be told by another. Raises UserError for a pattern
    that fits no file.
    """
    if pattern == "none":
        return places, "patients: not looked for (data.patient = none)"
    if pattern != AUTO:
        patients = _by_pattern(places, pattern)
        told_places = [replace(place, patient=patient) for place, patient in zip(places, patients, strict=True)]
        return told_places, _sentence(patients, "data.patient")
    around = _count_around(places)
    any_folder = partial(_any_folder, around=around, shared=_count_shared(places))
    rules: list[Rule] = [
        ("sub-... of BIDS", _bids, True),
        (_OWN, partial(_own_folder, around=around), True),
        ("folders named after patients", _patient_folder, True),
        ("names of files that name a patient", file_names.patient_file, True),
        ("folders above or below ct and mr", any_folder, False),
        ("names of files that name a patient", file_names.short_patient_file, False),
        (_BEGIN, partial(file_names.beginning, lengths=file_names.find_beginnings(places)), None),
        (
            "names of volumes that recur in several folders",
            partial(file_names.recurring_file, recurring=file_names.find_recurring(places)),
            None,
        ),
    ]
    patients, how, begins = [""] * len(places), list[str](), set[int]()
    for rule in (*rules, *rules):  # again, since folders that tell the patients of one modality may not do so for all
        silent = [i for i, patient in enumerate(patients) if not patient]
        told = _told_by(rule, [places[i] for i in silent], any_folder, first=not how)
        if any(told):
            how.append(rule[0])
        for i, patient in zip(silent, told, strict=True):
            patients[i] = patient
            if patient and rule[0] == _BEGIN:
                begins.add(i)
    if not how:
        return places, "patients: paths do not tell them (data.patient may: a regular expression)"
    patients = _one_writing(patients)
    told_places = [replace(place, patient=patients[i], begins=i in begins) for i, place in enumerate(places)]
    return told_places, _sentence(patients, ", ".join(dict.fromkeys(how)))


def _told_by(rule: Rule, places: list[Place], any_folder: Callable[[Place], str], *, first: bool) -> list[str]:
    """The patients that a rule tells; none where they are too few to be believed."""
    name, patient_of, certain = rule
    patients = _one_writing([patient_of(place) for place in places])
    if any(patients) and patient_of is _patient_folder:  # then the other folders at that place are patients as well
        patients = _one_writing([patient or any_folder(place) for patient, place in zip(patients, places, strict=True)])
    if any(patients) and name == _OWN:  # so is whatever else lies beside files called ct and mr
        beside = {place.source.parent: patient for place, patient in zip(places, patients, strict=True) if patient}
        patients = [patient or beside.get(place.source.parent, "") for place, patient in zip(places, patients, strict=True)]
    enough = _modalities_told(places, patients)
    if certain is None:
        return [patient if place.modality in enough else "" for place, patient in zip(places, patients, strict=True)]
    return patients if (certain and first) or enough == {place.modality for place in places} else [""] * len(places)


def _by_pattern(places: list[Place], pattern: str) -> list[str]:
    expression = re.compile(pattern)
    patients = []
    for place in places:
        match = expression.search(place.target.stem) or expression.search("/".join(place.target.parts[1:]))
        patients.append(match.group(1) or "" if match else "")
    if not any(patients):
        raise UserError(f"data.patient = {pattern}: fits the name of no file; expected an expression with one group, the patient")
    return patients


def _sentence(patients: list[str], how: str) -> str:
    silent = patients.count("")
    return f"patients: {len(set(patients) - {''})}, told by {how}" + (f"; {silent} files without" if silent else "")


def _modalities_told(places: list[Place], patients: list[str]) -> set[str]:
    """The modalities that have as many patients as there are splits."""
    by_modality: dict[str, set[str]] = {}
    for place, patient in zip(places, patients, strict=True):
        by_modality.setdefault(place.modality, set()).add(patient)
    return {modality for modality, names in by_modality.items() if len(names - {""}) >= FEWEST}


def _bids(place: Place) -> str:
    return next((match.group() for part in place.target.parts if (match := _BIDS.match(part))), "")


def _own_folder(place: Place, around: int) -> str:
    """`p01/ct.mha` and `p01/mr.mha`: the patient of the folder that the files lie in, however few patients there are."""
    if not (place.above and is_own(place.below)):
        return ""
    return _patient_folder(place) or _any_folder(place, around) or key_of(folders_of(place))


def _patient_folder(place: Place) -> str:
    """The path to the first folder that is named like a patient: `site1/p03` is not the p03 of site2."""
    folders = folders_of(place)
    for i, folder in enumerate(folders):
        if _PATIENT.fullmatch(folder):
            return key_of(folders[: i + 1])
    return ""


def _any_folder(place: Place, around: int, shared: int = 0) -> str:
    """The first folder that stands for nothing else, above the modality but for those `around` patients, else below it.

    The `shared` ones of all files tell nothing.
    """
    folders = folders_of(place)
    for i in range(max(shared, min(around, max(len(place.above) - 1, 0))), len(folders)):
        if not OTHER.fullmatch(folders[i]):
            return key_of(folders[: i + 1])
    return ""


def _count_shared(places: list[Place]) -> int:
    """How many folders all files of a modality have in common, as `ct/UPENN/UPENN-0001/...`, with another one in each of them."""
    shared = 0
    while all(len(folders_of(place)) > shared + 1 for place in places):
        names = {(place.modality, folders_of(place)[shared]) for place in places}
        if len(names) > len({modality for modality, _ in names}):
            break
        shared += 1
    return shared


def _count_around(places: list[Place]) -> int:
    """How many folders above the modality lie around those of patients.

    Of `Anna/first/ct` and `first/Anna/ct`, where names recur, there are more patients than names of examinations. Where they do not
    recur (`Anna/12345`, `Vienna/12345`), a folder with many others is none of a patient's.
    """
    around = 0
    while True:
        deeper = [(place.modality, folders_of(place)[: around + 2]) for place in places if len(place.above) > around + 1]
        if not deeper:
            return around
        counts = []
        for modality in {modality for modality, _ in deeper}:
            pairs = {folders[around:] for kind, folders in deeper if kind == modality}
            outer, inner = ({pair[i] for pair in pairs if not OTHER.fullmatch(pair[i])} for i in (0, 1))
            most = len(inner) if len(inner) < len(pairs) else len(pairs) / MOST_EXAMINATIONS
            counts.append(len(outer) >= FEWEST and len(outer) > most)
        if all(counts) or not any(OTHER.fullmatch(folders[around]) is None for _, folders in deeper):
            return around
        around += 1


def _one_writing(patients: list[str]) -> list[str]:
    """Names that differ only in case, spaces, leading zeros or how accents are stored become one, as it comes first."""
    first: dict[str, str] = {}
    return [first.setdefault(_plain(patient), patient) for patient in patients]


def _plain(patient: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)|[-_ ]+", "", unicodedata.normalize("NFKC", patient).casefold())
