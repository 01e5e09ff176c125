"""Names of patients in names of files: scanners export to folders such as DOE_JOHN, and a file's name travels into every report.

A part of a path that tells what a DICOM header of the same source says of a person (name, id, date of birth, address, institution, ...)
is replaced by a keyed hash. It tells it however it is written: together or apart, in any order, with initials, accents or not, in the
letters of another script, dates in any order. So are unique identifiers. Names that no header explains stay: they are the user's own.
"""

import contextlib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline import privacy
from pipeline.formats.silence import silent
from pipeline.parallel import in_parallel
from pipeline.sources.dates import read_dates

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.valuerep import PersonName

# Attributes whose text identifies a person or place (of PS3.15 table E.1-1, those that end up in file names).
_IDS = (
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StationName", "MedicalRecordLocator", "AdmissionID",
    "DeviceSerialNumber", "StudyID",
)  # fmt: skip
_TEXTS = (
    "PatientAddress", "PatientTelephoneNumbers", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "RegionOfResidence", "CountryOfResidence", "Occupation",
)  # fmt: skip
_DATES = ("PatientBirthDate", "PatientBirthDateInAlternativeCalendar")
_UID = re.compile(r"(?<!\d)(?<!\d\.)([0-2]\.\d+(\.\d+){3,}|2\.25\.\d{15,})")  # of a study, series or image: scanners name files after them
# Words that stand in headers and in anybody's folders alike, and tell nothing: those of layouts, of imaging, of made-up patients.
_COMMON_WORDS = """
    ct mr mri cta mra cbct pet t1 t2 t1w t2w flair pd pdw dwi adc dicom dcm nifti nii png image images img series scan scans study slice
    slices stack volume volumes data dataset raw set batch part fold train training test testing val validation traina trainb testa testb
    anat head brain skull neck body axial sagittal coronal anon anonymous anonymized anonymised patient patients pat subject subjects sub
    case cases id pid person dummy phantom unknown none name noname no nobody example sample demo hospital clinic klinik klinikum
    control controls volunteer volunteers healthy normal participant participants proband session visit site
    university department dept radiology institute center centre medical imaging street
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
_WITHOUT_STROKE = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
# As passports write them, once accents are off. Katakana become hiragana.
_CYRILLIC = dict(zip("абвгдежзиклмнопрстуфхцчшщъыьэюяіґє",
                     [*"abvgde", "zh", *"ziklmnoprstuf", "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya", *"ige"],
                     strict=True))  # fmt: skip
_GREEK = dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", [*"avgdezi", "th", *"iklmnxoprsstyf", "ch", "ps", "o"], strict=True))
_KANA = {chr(letter): chr(letter - 0x60) for letter in range(0x30A1, 0x30F7)}
_PLAIN_LETTERS = str.maketrans({**_WITHOUT_STROKE, **_CYRILLIC, **_GREEK, **_KANA})
_UNDECLARED = ("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251")  # encodings of names whose header does not say which
_SHORTEST = 4  # letters from which a word is found within others: "ann" is in "planning"
FILES_PER_TASK = 64


@dataclass(frozen=True)
class Identity:
    """What headers say of persons, in plain letters.

    words: each tells somebody alone; names: the words of each person's name; dates: (year, month, day) of birth.
    """

    words: frozenset[str] = frozenset()
    names: frozenset[tuple[str, ...]] = frozenset()
    dates: frozenset[tuple[int, int, int]] = frozenset()

    def __or__(self, other: "Identity") -> "Identity":
        return Identity(self.words | other.words, self.names | other.names, self.dates | other.dates)

    def is_told_by(self, part: str) -> bool:
        """Whether a part of a path tells any of it."""
        plain = _plain(part)
        tokens = _tokens(part)
        together = "".join(letter for letter in plain if letter.isalnum())
        pairs = {"".join(pair) for two in itertools.pairwise(tokens) for pair in (two, two[::-1])}
        chunks = {*tokens, *pairs, *_split(plain), together, _without_zeros(together)}
        return (
            any(word in chunks or (_is_long(word) and word in together) for word in self.words)
            or any(_spells(chunks, name) for name in self.names)
            or any(date in self.dates for date in read_dates(tokens, _COMMON))
        )


class Names:
    """What to call the folders and files of a source."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Look into the header of every DICOM file among `files`."""
        files = list(files)
        tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
        self._everybody = Identity()
        self._telling: dict[str, bool] = {}
        for identity in in_parallel(_identity_of_files, tasks):
            self._everybody |= identity

    def path(self, place: PurePosixPath) -> PurePosixPath:
        """`place` (modality/... or modality/split/...) with every telling part replaced; the split's own name says nothing of anybody."""
        kept = 2 if len(place.parts) > 2 and place.parts[1] in ("train", "test") else 1
        return PurePosixPath(*place.parts[:kept], *(self._part(part) for part in place.parts[kept:]))

    def group(self, name: str) -> str:
        """A subject's name, such as in pairs.csv, replaced when it tells who the subject is."""
        return _hashed(name) if self._tells(name) else name

    def _part(self, part: str) -> str:
        part = _UID.sub(lambda found: f"u-{privacy.pseudonym('uid', found.group())[:12]}", part)
        if not self._tells(part):
            return part
        suffixes = "".join(PurePosixPath(part).suffixes[-2:]) if part.lower().endswith(".gz") else PurePosixPath(part).suffix
        if not re.fullmatch(r"(\.[A-Za-z]\w{0,4}){0,2}", suffixes):
            suffixes = ""
        return _hashed(part.removesuffix(suffixes)) + suffixes

    def _tells(self, name: str) -> bool:
        if name not in self._telling:
            self._telling[name] = self._everybody.is_told_by(name)
        return self._telling[name]


def _hashed(name: str) -> str:
    return f"p-{privacy.pseudonym('name', _plain(name))[:12]}"


def _identity_of_files(files: list[Path]) -> Identity:
    return functools.reduce(Identity.__or__, map(identity_of, files), Identity())


def identity_of(file: Path) -> Identity:
    """What the header of a DICOM file says of persons; nothing for what is no DICOM file, whatever its name."""
    if not _may_be_dicom(file):
        return Identity()
    import pydicom

    identity = Identity()
    with silent("pydicom"), contextlib.suppress(Exception):  # damaged files are judged later, by their reader
        dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True, defer_size=2**16)
        for part in _datasets(dataset):
            identity |= _identity(part)
    return identity


def _may_be_dicom(file: Path) -> bool:
    """Whether the bytes are those of a DICOM file, or of one without preamble: its first group is 0002 or 0008 in either byte order."""
    with file.open("rb") as opened:
        start = opened.read(132)
    return start[128:132] == b"DICM" or start[:2] in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")


def _datasets(dataset: "Dataset") -> Iterator["Dataset"]:
    """The data set itself and those in its sequences, at any depth."""
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _datasets(item)


def _identity(dataset: "Dataset") -> Identity:
    words: set[str] = set()
    names: set[tuple[str, ...]] = set()
    for element in dataset:
        if element.VR == "PN" and element.value:
            for name in element.value if element.VM > 1 else [element.value]:
                for parts in itertools.chain.from_iterable(_writings(text) for text in _decodings(name)):
                    words |= {word for word in parts if len(word) > 1}
                    if len(parts) > 1:
                        names.add(parts)
                        words |= {"".join(parts), "".join(reversed(parts))}
    for name in _IDS:
        words |= set(_id_words(_text(dataset, name)))
    for name in _TEXTS:
        words |= {word for word in _split(_plain(_text(dataset, name))) if _is_long(word) and word not in _COMMON}
    return Identity(
        frozenset(words), frozenset(names), frozenset(date for name in _DATES for date in _dates_of_birth(_text(dataset, name)))
    )


def _decodings(name: "PersonName") -> set[str]:
    """A name as the header's character set has it, and, where letters are not ASCII, as the usual others do: many headers do not say."""
    texts, stored = {str(name)}, name.original_string
    if isinstance(stored, bytes) and not stored.isascii():
        for encoding in _UNDECLARED:
            with contextlib.suppress(UnicodeDecodeError):
                texts.add(stored.decode(encoding))
    return texts


def _writings(name: str) -> Iterator[tuple[str, ...]]:
    """The words of a name as letters, ideographs and phonetic signs have it, umlauts as one letter and as two."""
    if name.isalpha():  # family and given name in one
        name = f"{name}={' '.join(_tokens(name))}"
    for writing in unicodedata.normalize("NFKC", name.casefold()).split("="):
        for spelling in {writing, writing.translate(_SPELT_OUT)}:
            yield tuple(word for word in _split(_plain(spelling)) if word not in _COMMON)


def _text(dataset: "Dataset", name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _id_words(text: str) -> Iterator[str]:
    """An id identifies as a whole, however it is punctuated, and by a long enough number in it; its other words are like anybody's."""
    whole = "".join(letter for letter in _plain(text) if letter.isalnum())
    if whole and whole not in _COMMON and (len(whole) > 2 or not whole.isascii()):
        yield whole
        if not whole.isdecimal() and len(_without_zeros(whole)) > 2:
            yield _without_zeros(whole)
        for number in re.findall(r"\d+", "".join(re.split(r"[\W_]+", text))):
            if len(number.lstrip("0")) >= _SHORTEST:
                yield number.lstrip("0")


def _spells(chunks: set[str], name: tuple[str, ...]) -> bool:
    """Whether a chunk is made of a name's words and initials run together, a word of two letters or more among them: `johndoe`, `jdoe`."""
    pieces = [{word, word[0]} for word in name]
    for count in range(2, min(len(name), 4) + 1):
        for chosen in itertools.permutations(pieces, count):
            for spelling in itertools.product(*chosen):
                if max(map(len, spelling)) > 1 and "".join(spelling) in chunks:
                    return True
    return False


def _dates_of_birth(text: str) -> Iterator[tuple[int, int, int]]:
    """YYYYMMDD as the standard has it, whatever stands between; and what else stands there, in the usual orders."""
    digits = re.sub(r"\D", "", text)
    if len(digits) == 8 and not re.match(r"\d\d?\D", text):
        yield int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    else:
        yield from read_dates(_tokens(text), _COMMON)


def _without_zeros(text: str) -> str:
    """`text` without zeros before its numbers: k00471b is k471b."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _tokens(part: str) -> list[str]:
    """Runs of letters and runs of digits, also where capitals begin a word: `LiWei03` is li, wei, 03."""
    apart = re.sub(r"(?<=[a-z\u00df-\u00ff])(?=[A-Z\u00c0-\u00de])", " ", part)
    return re.findall(r"\d+|[^\W\d_]+", _plain(apart))


def _is_long(word: str) -> bool:
    """Long enough to tell somebody within other words; ideographs tell more than letters."""
    return len(word) >= (_SHORTEST if word.isascii() else 2)


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text) if word]


def _plain(text: str) -> str:
    """Lower case without accents: Müller, MULLER and mu\u0308ller are one name."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("ου", "ou").translate(_PLAIN_LETTERS).strip()
