"""Names of patients in names of files: scanners export to folders such as DOE_JOHN, and a file's name travels into every report.

A part of a path that tells what a header of the same source says of a person (name, id, date of birth, address, institution, ...; see
headers.py) is replaced by a keyed hash. It tells it however it is written: together or apart, in any order, with initials, accents or
not, in the letters of another script, in another spelling of its sounds (Taro, Tarou), with percent signs or damaged letters, dates in
any order. So are unique identifiers. Names that no header explains stay: they are the user's own.

A number of up to three digits is a patient's where a folder is called so, or where a word such as patient, p or id stands before it; a
file called 001.dcm is a slice, though some patient's id be 001.
"""

import contextlib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.formats.silence import silent
from pipeline.sources.dates import read_dates
from pipeline.sources.headers import read_header
from pipeline.sources.spelling import SPELT_OUT, consonants_of, readings_of, romanise, sound_of, to_plain_letters

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
_COMMON_SOUNDS = frozenset(map(sound_of, _COMMON))
_UNDECLARED = ("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251")  # encodings of names whose header does not say which
_BEFORE_NUMBERS = "p s pat patient patients pt subj subject sub case id pid patientid person proband participant"
_PATIENT_WORDS = frozenset(_BEFORE_NUMBERS.split())
_PARTICLE_WORDS = "van von vom zu zum der den de del della di da do dos das du la le el al bin ben ibn abu ter ten st san"
_PARTICLES = frozenset(_PARTICLE_WORDS.split())
_SHORTEST = 4  # letters from which a word is found within others: "ann" is in "planning"


@dataclass(frozen=True)
class Identity:
    """What headers say of persons, in plain letters: words that tell somebody alone, the words of each person's name, (year, month, day)
    of birth, numbers of up to three digits that are ids."""

    words: frozenset[str] = frozenset()
    names: frozenset[tuple[str, ...]] = frozenset()
    dates: frozenset[tuple[int, int, int]] = frozenset()
    numbers: frozenset[int] = frozenset()

    def __or__(self, other: "Identity") -> "Identity":
        return Identity(self.words | other.words, self.names | other.names, self.dates | other.dates, self.numbers | other.numbers)

    def is_told_by(self, part: str, *, file: bool = False) -> bool:
        """Whether a part of a path tells any of it, the name of a folder or, without its ending, of a `file`."""
        for reading in readings_of(part):
            tokens = _tokens(reading)
            if any(date in self.dates for date in read_dates(tokens, _COMMON)) or self._numbered_by(tokens, file):
                return True
            if any(self._named_by(writing) for writing in {reading, romanise(reading)}):
                return True
            if any(self._sounds_like(token) for token in tokens if token not in _COMMON):
                return True
        return False

    def _named_by(self, part: str) -> bool:
        plain, tokens = to_plain_letters(part), _tokens(part)
        together = "".join(letter for letter in plain if letter.isalnum())
        pairs = {"".join(pair) for two in itertools.pairwise(tokens) for pair in (two, two[::-1])}
        chunks = {*tokens, *pairs, *map(without_zeros, pairs), *_split(plain), together, without_zeros(together)}
        if any(word in chunks or (_is_long(word) and word in together) for word in self.words):
            return True
        sounds, whole = {sound_of(chunk) for chunk in chunks}, sound_of(together)
        return (
            any(_spells(chunks, name) for name in self.names)
            or any(word in sounds or (len(word) > _SHORTEST and word in whole) for word in self._sounds)
            or any(_spells(sounds, name) for name in self._sounding_names)
        )

    def _numbered_by(self, tokens: list[str], file: bool) -> bool:
        for before, token in itertools.pairwise(["", *tokens]):
            if token.isdecimal() and int(token) in self.numbers:
                alone = tokens in ([token], ["0", token])
                if (alone and not file) or (before in _PATIENT_WORDS and not (file and before == "s")):
                    return True  # s01.dcm is a slice
                if int(token) >= 100 and not alone and (before == "" or (before in ("ct", "mr", "mri") and not file)):
                    return True
        return False

    @functools.cached_property
    def _sounds(self) -> set[str]:
        return {sound_of(word) for word in self.words if word.isalpha() and len(sound_of(word)) > 2} - _COMMON_SOUNDS

    def _sounds_like(self, token: str) -> bool:
        """Whether a token has the consonants of a name's word; three are enough where one of them is of a script without vowels."""
        consonants = consonants_of(token)
        latin = token.isascii() and self._consonants.get(consonants, True)
        return consonants in self._consonants and len(consonants) >= (_SHORTEST if latin else _SHORTEST - 1)

    @functools.cached_property
    def _consonants(self) -> dict[str, bool]:
        """The consonants of each word of a name, and whether it is of Latin letters."""
        return {consonants_of(word): word.isascii() for name in self.names for word in name}

    @functools.cached_property
    def _sounding_names(self) -> set[tuple[str, ...]]:
        return {tuple(sound_of(word) for word in name) for name in self.names}


def identity_of(file: Path) -> Identity:
    """What the header of a file says of persons, as far as it says it in DICOM's terms, whatever the file's name."""
    identity, dataset = Identity(), read_header(file)
    with silent("pydicom"), contextlib.suppress(Exception):  # damaged files are judged later, by their reader
        for part in _datasets(dataset) if dataset is not None else ():
            identity |= _identity(part)
    return identity


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
    numbers: set[int] = set()
    for element in dataset:
        if element.VR == "PN" and element.value:
            for name in element.value if element.VM > 1 else [element.value]:
                particles = _particles(str(name))
                for parts in itertools.chain.from_iterable(_writings(text) for text in _decodings(name)):
                    words |= {word for word in parts if len(word) > 1} - particles
                    if len(parts) > 1:
                        names.add(parts)
                        words |= {"".join(parts), "".join(reversed(parts))}
    for name in _IDS:
        text = _text(dataset, name)
        words |= set(_id_words(text))
        numbers |= {number for number in _short_numbers(text) if number >= 100 or name == "PatientID"}
    for name in _TEXTS:
        words |= {word for word in _split(to_plain_letters(_text(dataset, name))) if _is_long(word) and word not in _COMMON}
    dates = {date for name in _DATES for date in _dates_of_birth(_text(dataset, name))}
    return Identity(frozenset(words), frozenset(names), frozenset(dates), frozenset(numbers))


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
        without_lost = "".join(letter for letter in writing if letter.isascii())  # M?ller and M_ller of Müller
        for spelling in {writing, writing.translate(SPELT_OUT), romanise(writing), without_lost}:
            yield tuple(word for word in _split(to_plain_letters(spelling)) if word not in _COMMON)


def _particles(name: str) -> set[str]:
    """Words of a name that tell nobody alone: van and de la before others, and those of its prefix and suffix (PS3.5 6.2.1.2)."""
    told = set[str]()
    for parts in (writing.split("^") for writing in name.split("=")):
        words = [_split(to_plain_letters(part)) for part in parts]
        told |= {word for part in words[:3] for word in part[:-1] if word in _PARTICLES}.union(*words[3:])
    return told


def _text(dataset: "Dataset", name: str) -> str:
    value = dataset.get(name)
    return "" if value is None else " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _id_words(text: str) -> Iterator[str]:
    """An id identifies as a whole, however it is punctuated, and by a long enough number in it; its other words are like anybody's."""
    whole = "".join(letter for letter in to_plain_letters(text) if letter.isalnum())
    if whole.isdecimal() and len(whole.lstrip("0")) < _SHORTEST:  # see Identity.numbers
        return
    if len(whole) > 1 and whole not in _COMMON:
        yield from {whole, whole if whole.isdecimal() else without_zeros(whole)}
        for number in re.findall(r"\d+", "".join(re.split(r"[\W_]+", text))):
            if len(number.lstrip("0")) >= _SHORTEST:
                yield number.lstrip("0")


def _short_numbers(text: str) -> Iterator[int]:
    """The number of an id that has nothing but up to three digits, and perhaps a word such as patient before them."""
    *before, number = _tokens(text) or [""]
    if set(before) <= _PATIENT_WORDS and number.isdecimal() and 0 < int(number) < 10 ** (_SHORTEST - 1):
        yield int(number)


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


def without_zeros(text: str) -> str:
    """`text` without zeros before its numbers: k00471b is k471b."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text)


def _tokens(part: str) -> list[str]:
    """Runs of letters and runs of digits, also where capitals begin a word: `LiWei03` is li, wei, 03."""
    apart = re.sub(r"(?<=[a-z\u00df-\u00ff])(?=[A-Z\u00c0-\u00de])", " ", part)
    return re.findall(r"\d+|[^\W\d_]+", to_plain_letters(apart))


def _is_long(word: str) -> bool:
    """Long enough to tell somebody within other words; ideographs tell more than letters."""
    return len(word) >= (_SHORTEST if word.isascii() else 2)


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\W_]+", text) if word]
