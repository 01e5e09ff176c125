"""Dates as people write them in names of folders: in any order, months by number or name, years of other calendars too."""

import itertools
from collections.abc import Collection, Iterable, Iterator

_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12}
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "x": 10, "xi": 11, "xii": 12}
_DATE_SIGNS = frozenset("年月日년월일")
# Of Japan, and the year before their first one.
_ERAS = {"大正": 1911, "t": 1911, "昭和": 1925, "s": 1925, "平成": 1988, "h": 1988, "令和": 2018, "r": 2018}
_BUDDHIST = 543  # years before ours


def read_dates(tokens: list[str], other_words: Collection[str]) -> Iterator[tuple[int, int, int]]:
    """Every date that tokens in a row can be read as: year, month and day in the usual orders, apart or together, months by name too.

    `other_words` stand for no month.
    """
    tokens = list(_without_eras([token for token in tokens if token not in _DATE_SIGNS]))
    triples = [tokens[i : i + 3] for i in range(len(tokens) - 2)]
    triples += [[month, run[:2], run[2:]] for month, run in itertools.pairwise(tokens) if run.isdigit() and len(run) in (4, 6)]
    for token in tokens:
        if token.isdigit() and len(token) >= 8:
            for start in range(len(token) - 7):
                run = token[start : start + 8]
                triples += [[run[:4], run[4:6], run[6:]], [run[:2], run[2:4], run[4:]]]
        if token.isdigit() and len(token) == 6:
            triples.append([token[:2], token[2:4], token[4:]])
    for first, second, third in triples:
        for year, month, day in ((first, second, third), (third, second, first), (third, first, second)):
            if year.isdecimal() and day.isdecimal() and len(year) in (2, 4):
                centuries, words = ((0, -_BUDDHIST), other_words) if len(year) == 4 else ((1900, 2000), None)
                for century, number in itertools.product(centuries, _months(month, words)):
                    yield century + int(year), number, int(day)


def _months(text: str, other_words: Collection[str] | None) -> Iterable[int]:
    """The months that a token may stand for: any for a word that is not known, of another language, unless `other_words` is None."""
    if text.isdecimal():
        return (int(text),)
    known = _ROMAN.get(text) or _MONTHS.get(text[:3])
    return (known,) if known else () if other_words is None or text in other_words else range(1, 13)


def _without_eras(tokens: list[str]) -> Iterator[str]:
    """Tokens with years of Japan's eras as ours: 昭和 34 is 1959."""
    era = 0
    for token, after in itertools.pairwise([*tokens, ""]):
        begins = _ERAS.get(token, 0) if after.isdecimal() and len(after) <= 2 else 0
        if not begins:
            yield str(era + int(token)) if era else token
        era = begins
