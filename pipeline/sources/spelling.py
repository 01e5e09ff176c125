"""Names in plain letters, so that one name is found however it is written: without accents, in Latin letters, and as it sounds."""

import re
import unicodedata

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
