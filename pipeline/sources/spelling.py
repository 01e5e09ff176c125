"""Names in plain letters, so that one name is found however it is written: without accents, in Latin letters, and as it sounds."""

import base64
import contextlib
import re
import unicodedata
from urllib.parse import unquote

SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
_WITHOUT_STROKE = {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
# As passports write them, once accents are off. Katakana become hiragana.
_CYRILLIC = dict(zip("абвгдежзиклмнопрстуфхцчшщъыьэюяіґє",
                     [*"abvgde", "zh", *"ziklmnoprstuf", "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya", *"ige"],
                     strict=True))  # fmt: skip
_GREEK = dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", [*"avgdezi", "th", *"iklmnxoprsstyf", "ch", "ps", "o"], strict=True))
_KANA = {chr(letter): chr(letter - 0x60) for letter in range(0x30A1, 0x30F7)}
_PLAIN_LETTERS = str.maketrans({**_WITHOUT_STROKE, **_CYRILLIC, **_GREEK, **_KANA})
_SYLLABLES = ("HIRAGANA LETTER", "KATAKANA LETTER", "HANGUL SYLLABLE")
_HEPBURN = {"si": "shi", "ti": "chi", "tu": "tsu", "hu": "fu", "zi": "ji", "di": "ji", "du": "zu"}
_OF_ARCHIVES = ("cp850", "cp852", "cp866", "cp1252", "cp932", "gb18030", "cp949")
# Spellings of one sound, in this order; what is left of two names that sound alike is the same.
_SOUNDS = (
    (r"(?<=[bcdfgklmnpqrstvwxz])h", ""),  # Mikhail, Mihail; Thomas, Tomas
    (r"([aeiou])h(?![aeiou])", r"\1"),  # Ohno, Ono
    (r"([aou])e", r"\1"),  # Mueller, Muller
    (r"ou", "o"),  # Tarou, Taro
    (r"[jy]", "i"),  # Julia, Yulia; Sergej, Sergey
    (r"w", "v"),
    (r"(.)\1+", r"\1"),
)


def to_plain_letters(text: str) -> str:
    """Lower case without accents: Müller, MULLER and mu\u0308ller are one name."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("ου", "ou").translate(_PLAIN_LETTERS).strip()


def romanise(text: str) -> str:
    """`text` with kana and Hangul in Latin letters, syllable by syllable as Unicode names them, kana as in passports (Hepburn)."""
    written: list[str] = []
    for letter in unicodedata.normalize("NFKC", text):
        kind, _, syllable = unicodedata.name(letter, "").rpartition(" ")
        sound = syllable.lower()
        if kind in _SYLLABLES:
            written.append(_HEPBURN.get(sound, sound) if kind != "HANGUL SYLLABLE" else sound)
        elif kind.endswith("A LETTER SMALL"):
            if sound in ("ya", "yu", "yo") and written and written[-1].endswith("i"):
                start = written.pop()[:-1]
                written.append(start + (sound[1:] if start.endswith(("sh", "ch", "j")) else sound))
        elif letter != "ー":  # a long vowel
            written.append(letter)
    return "".join(written)


def sound_of(word: str) -> str:
    """What is common to the usual spellings of a word in plain letters: long vowels, umlauts, doubled letters, j or y."""
    for pattern, sound in _SOUNDS:
        word = re.sub(pattern, sound, word)
    return word


def readings_of(text: str) -> set[str]:
    """`text`, and what it may have been before a program wrote it otherwise: with percent signs, as base64, in a wrong character set."""
    found = {text, unquote(text), unquote(text, "latin-1")}
    if not text.isascii():  # in a zip archive, names of other systems are taken for cp437
        pairs = (
            [(wrong, "utf-8") for wrong in ("latin-1", "cp1252", "cp437", "cp850")]
            + [("cp437", right) for right in _OF_ARCHIVES]
            + [("cp850", "cp1252")]
        )
        for wrong, right in pairs:
            with contextlib.suppress(UnicodeError):
                found.add(text.encode(wrong).decode(right))
    if re.fullmatch(r"[A-Za-z0-9+_-]{8,}={0,2}", text):
        with contextlib.suppress(ValueError):
            found.add(base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), b"-_" if "+" not in text else None).decode())
    return found


def consonants_of(word: str) -> str:
    """The consonants of a word in plain letters, as they sound: one for Mohammed, Muhammad and محمد.

    Letters of scripts that have few vowels or none (Arabic, Hebrew, Thai, of India) are called after their sound, as Unicode has it.
    """
    latin = "".join(letter if letter.isascii() else _sound_of_letter(letter) for letter in word)
    consonants = re.sub(r"[cq]", "k", re.sub(r"[aeiouy]", "", sound_of(latin)))
    return re.sub(r"(.)\1+", r"\1", consonants)


def _sound_of_letter(letter: str) -> str:
    called = re.search(r"(?:LETTER|CHARACTER) (?:FINAL |SMALL |CAPITAL )*(?!SARA|MAI)([B-DF-HJ-NP-TV-Z])", unicodedata.name(letter, ""))
    return f"{called.group(1).lower()}a" if called else ""
