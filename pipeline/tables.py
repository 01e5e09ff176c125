"""Tables for the terminal in plain text: side by side where they fit, else each row as lines of its own. Nothing is ever cut."""

import shutil
import sys
import unicodedata
from collections.abc import Sequence

GAP = "  "


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """`rows` under `columns`, in lines of at most `width` characters; where that is too narrow every row becomes a block, a line a cell.

    Raises ValueError for a row of another length.
    """
    widths = [max(map(_width, cells)) for cells in zip(columns, *rows, strict=True)]
    if sum(widths) + len(GAP) * (len(widths) - 1) <= width:
        return "\n".join(GAP.join(map(_pad, row, widths)).rstrip() for row in (columns, *rows))
    name = max(map(_width, columns[1:]), default=0)
    lines = []
    for row in rows:
        lines += [row[0], *(f"{GAP}{_pad(column, name)}{GAP}{text}" for column, text in zip(columns[1:], row[1:], strict=True))]
    return "\n".join(line.rstrip() for line in lines)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` for the terminal in use, for 80 columns where the output is no terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
    print(format_table(columns, rows, width))


def _width(text: str) -> int:
    """Columns that `text` takes on a terminal, where East Asian characters take two and combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
