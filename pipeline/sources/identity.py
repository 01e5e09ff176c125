"""Names of patients in names of files: scanners export to folders such as DOE_JOHN, and a file's name travels into every report.

A part of a path that holds what a DICOM header of the same source says of a person (name, id, birth date, institution, ...) is replaced
by a keyed hash. Names that no header explains stay: they are the user's own.
"""

import contextlib
import logging
import re
import unicodedata
import warnings
from pathlib import Path, PurePosixPath

from pipeline import privacy

# Attributes whose text identifies a person or place (a part of PS3.15 table E.1-1, the ones that end up in file names).
_ATTRIBUTES = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientBirthDate",
    "PatientAddress", "PatientTelephoneNumbers", "AccessionNumber", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "ReferringPhysicianName", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy", "OperatorsName", "PhysiciansOfRecord",
    "RequestingPhysician", "ResponsiblePerson", "StationName", "MedicalRecordLocator", "AdmissionID", "DeviceSerialNumber",
)  # fmt: skip
_NO_DICOM = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gz", ".nii", ".csv", ".txt", ".json"}


class Names:
    """What to call the folders and files of a source."""

    def __init__(self, root: Path, files: list[Path]) -> None:
        """Look into the header of every DICOM file among `files`, below `root`."""
        self._words: set[str] = set()
        self._telling: set[str] = set()
        for file in files:
            words = _words(file)
            if words:
                self._words |= words
                self._telling |= {part for part in file.relative_to(root).parts if _tells(PurePosixPath(part), words)}

    def path(self, place: PurePosixPath) -> PurePosixPath:
        """`place` (modality/... or modality/split/...) with every telling part replaced."""
        return PurePosixPath(place.parts[0], *(self._part(part) for part in place.parts[1:]))

    def group(self, name: str) -> str:
        """A subject's name in pairs.csv, replaced when it tells who the subject is."""
        return _hashed(name) if name in self._telling or _tells(PurePosixPath(name), self._words) else name

    def _part(self, part: str) -> str:
        telling = part in self._telling or any(len(word) >= 4 and word in self._words for word in _split(part))
        return _hashed(PurePosixPath(part).stem) + PurePosixPath(part).suffix if telling else part


def _hashed(name: str) -> str:
    return f"p-{privacy.pseudonym('name', _plain(name))[:12]}"


def _tells(part: PurePosixPath, words: set[str]) -> bool:
    """Whether a path's part holds one of the words: short ones as a word of their own, from four characters on anywhere."""
    plain = _plain(part.name)
    own = {*_split(part.name), _plain(part.stem)}
    return any(word in own or (len(word) >= 4 and word in plain) for word in words)


def _words(file: Path) -> set[str]:
    """Words of at least two characters that identify a person in the file's header; none for what is no DICOM file."""
    if file.suffix.lower() in _NO_DICOM:
        return set()
    import pydicom

    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # its messages quote the header
    try:
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # damaged files are judged later, by their reader
            warnings.simplefilter("ignore")
            force = file.suffix.lower() in (".dcm", ".ima")
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=force, specific_tags=list(_ATTRIBUTES))
            text = " ".join(str(dataset[name].value) for name in _ATTRIBUTES if name in dataset)
            words = {word for word in _split(text) if len(word) > 1}
            name = _split(str(dataset.get("PatientName", "")))
            return words | {_plain(str(dataset.get("PatientID", ""))), "".join(name), "".join(reversed(name))} - {""}
        return set()
    finally:
        logger.setLevel(level)


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", _plain(text)) if word]


def _plain(text: str) -> str:
    """Lower case without accents: Müller, MULLER and mu\u0308ller are one name."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(letter)).strip()
