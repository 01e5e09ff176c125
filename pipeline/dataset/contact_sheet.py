"""Contact sheets: many slices on one picture, to be looked at."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CELL, LABEL, COLUMNS = 128, 14, 10
BACKGROUND, INK = 40, 230


def draw(pictures: list[NDArray[np.float32]], labels: list[str]) -> Image.Image:
    """Pictures of 0..1 of any size, each scaled into a square with its label (cut to fit) below it."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("L", (min(len(pictures), COLUMNS) * CELL, rows * (CELL + LABEL)), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + LABEL)
        cell = Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        cell.thumbnail((CELL - 4, CELL - 4))
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
        pen.text((left + 3, top + CELL), label[-20:], fill=INK)
    return sheet


def save(path: Path, pictures: list[NDArray[np.float32]], labels: list[str]) -> None:
    """Write the sheet as PNG; the same pictures always give the same bytes."""
    draw(pictures, labels).save(path, optimize=False)
