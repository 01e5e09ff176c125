"""What real files do to the pictures: display window, frame, resizing, JPEG. Out come 8-bit grey pixels, as such sets are shared."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.phantom.heads import Head

Bytes = NDArray[np.uint8]
SMALLEST_JPEG = 140  # pixels a side; files are larger, and on a smaller picture the blocks would be larger than any real ones


@dataclass(frozen=True)
class Look:
    """How one file was made from its picture."""

    level: float  # CT display window, Hounsfield units
    width: float
    gamma: float  # MR display curve
    gain: float  # MR brightness; above 1 the brightest saturate
    side: int  # pixels a side of an earlier, smaller copy of the file; without effect on pictures that are smaller still
    jpeg: int  # JPEG quality of an earlier save; 0: none


def draw_look(g: np.random.Generator) -> Look:
    """A look like those found among shared slices."""
    return Look(
        level=float(g.normal(38, 4)),
        width=float(np.clip(g.normal(85, 10), 60, 120)),
        gamma=float(np.exp(g.normal(0.03, 0.12))),
        gain=float(g.uniform(0.8, 1.05)),
        side=int(g.integers(110, 260)) if g.random() < 0.5 else 10_000,
        jpeg=int(g.integers(45, 95)) if g.random() < 0.6 else 0,
    )


def render_ct(hounsfield: NDArray[np.float32], look: Look) -> Bytes:
    """CT (H, W) in Hounsfield units as its 8-bit picture: bone saturates white, fat and air are black."""
    grey = np.clip((hounsfield - np.float32(look.level)) / np.float32(look.width) + np.float32(0.5), 0, 1)
    return _degrade((grey * 255 + 0.5).astype(np.uint8), look)


def render_mr(magnitude: NDArray[np.float32], look: Look) -> Bytes:
    """MR (H, W) in 0..1 as its 8-bit picture."""
    grey = np.clip(magnitude * np.float32(look.gain), 0, 1) ** np.float32(look.gamma)
    return _degrade((grey * 255 + 0.5).astype(np.uint8), look)


def render_pair(head: Head, seed: int | None = None) -> tuple[Bytes, Bytes]:
    """CT and MR of `head` as two 8-bit pictures on its pixel grid, each with its own draw of window, resizing and JPEG."""
    g = np.random.default_rng([head.seed if seed is None else seed, 7])
    return render_ct(head.ct, draw_look(g)), render_mr(head.mr, draw_look(g))


def _degrade(picture: Bytes, look: Look) -> Bytes:
    shape = picture.shape[::-1]
    image = Image.fromarray(picture)
    if look.side < picture.shape[0]:
        image = image.resize((look.side, look.side), Image.Resampling.BILINEAR).resize(shape, Image.Resampling.BICUBIC)
    if look.jpeg and picture.shape[0] >= SMALLEST_JPEG:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=look.jpeg)
        image = Image.open(buffer)
    return np.asarray(image.convert("L"))
