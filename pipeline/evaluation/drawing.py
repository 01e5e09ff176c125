"""Text on pictures, and differences as colours with their scale."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.float32]
FONT = 13  # pixels
PAPER, INK = (255, 255, 255), (28, 37, 48)
BAR = 8  # pixels: height of the scale's colours


def colour(difference: Picture, most: float) -> Picture:
    """Differences (H, W) as RGB in 0..1: white at 0, red above, blue below; full colour from `most` on."""
    strength = np.clip(np.abs(difference) / most, 0, 1)[..., None]
    full = np.where(difference[..., None] > 0, (0.8, 0.0, 0.0), (0.0, 0.2, 0.8))
    return np.asarray(1 - strength + strength * full, np.float32)


def write_line(texts: list[str], widths: list[int]) -> NDArray[np.uint8]:
    """A strip of text (H, sum of widths, 3): each text at the left of its width, and ending in … where it is too long."""
    strip = Image.new("RGB", (sum(widths), FONT + 6), PAPER)
    pen, font, left = ImageDraw.Draw(strip), ImageFont.load_default(FONT), 0
    for text, width in zip(texts, widths, strict=True):
        while text.rstrip("…") and pen.textlength(text, font) > width - 6:
            text = text.rstrip("…")[:-1] + "…"
        pen.text((left + 3, 2), text, INK, font)
        left += width
    return np.asarray(strip)


def draw_scale(width: int, most: float) -> NDArray[np.uint8]:
    """The colours of differences from -most to most (H, width, 3), with figures below."""
    bar = np.repeat(colour(np.linspace(-most, most, width, dtype=np.float32)[None], most), BAR, axis=0)
    strip = Image.new("RGB", (width, FONT + 6), PAPER)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(FONT)
    for text, place, anchor in ((f"-{most:g}", 1, "la"), ("0", width // 2, "ma"), (f"+{most:g}", width - 1, "ra")):
        pen.text((place, 2), text, INK, font, anchor=anchor)
    return np.concatenate([as_bytes(bar), np.asarray(strip)])


def as_bytes(picture: Picture) -> NDArray[np.uint8]:
    """0..1 as 0..255."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def stack(pictures: list[NDArray[np.uint8]], gap: int = 0) -> NDArray[np.uint8]:
    """RGB pictures under each other, at the left of white paper, `gap` pixels between them."""
    widest = max(picture.shape[1] for picture in pictures)
    padded = [np.pad(each, ((0, gap), (0, widest - each.shape[1]), (0, 0)), constant_values=255) for each in pictures]
    return np.concatenate(padded)
