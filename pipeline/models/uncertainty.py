"""Where a translation may be wrong: how much it changes when the same slice is mirrored or moved by a pixel.

A network that knows what it sees answers such questions alike. On registered pairs this spread goes with the true error better than the
residual of translating there and back does (docs/evaluation.md), and it needs one network only.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.models.bundle import translate

Images = NDArray[np.float32]
SHIFTS = ((1, 0), (0, 1), (-1, 0), (0, -1), (2, 2), (-2, -2))  # pixels down and across


def doubt(
    generator: nn.Module, images: Images, contrast: Sequence[str] | str | None = None, batch_size: int = 16, made: Images | None = None
) -> Images:
    """Standard deviation, 0..1, of the translations of `images` (N, H, W) in 0..1 as they are, mirrored, and moved by one or two pixels.

    `made`: the translation of the images as they are, where it is there already.
    """
    total = (translate(generator, images, contrast, batch_size) if made is None else made).astype(np.float64)
    squares = np.square(total)
    mirrored = translate(generator, np.ascontiguousarray(images[:, :, ::-1]), contrast, batch_size)[:, :, ::-1]
    others = (mirrored, *(_moved_back(generator, images, shift, contrast, batch_size) for shift in SHIFTS))
    for other in others:
        total += other
        squares += np.square(other, dtype=np.float64)
    count = len(SHIFTS) + 2
    return np.sqrt(np.maximum(squares / count - np.square(total / count), 0)).astype(np.float32)


def _moved_back(generator: nn.Module, images: Images, shift: tuple[int, int], contrast: Sequence[str] | str | None, batch: int) -> Images:
    """The translation of moved images, moved back; what leaves on one side enters on the other, which is black."""
    there = translate(generator, np.roll(images, shift, (1, 2)), contrast, batch)
    return np.roll(there, (-shift[0], -shift[1]), (1, 2))
