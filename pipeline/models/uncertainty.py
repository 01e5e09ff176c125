"""How sure a generator is: how far its answers to the same slice, moved and mirrored, lie apart."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

SHIFTS = ((1, 0), (0, 1), (-1, 0), (0, -1), (2, 2), (-2, -2))  # pixels down and across


def estimate_uncertainty(translate: Callable[[Images], Images], images: Images, prediction: Images | None = None) -> Images:
    """Standard deviation, 0..1, of the translations of `images` (N, H, W) in 0..1 as they are, mirrored, and moved by one or two pixels.

    A network that knows what it sees answers such questions alike. On registered pairs this spread goes with the true error better than
    the residual of translating there and back does (docs/evaluation.md), and it needs one network only.
    `prediction`: the translation of the images as they are, where it is there already.
    """
    total = (translate(images) if prediction is None else prediction).astype(np.float64)
    squares = np.square(total)
    for other in _translate_variants(translate, images):
        total += other
        squares += np.square(other, dtype=np.float64)
    count = len(SHIFTS) + 2
    return np.sqrt(np.maximum(squares / count - np.square(total / count), 0)).astype(np.float32)


def _translate_variants(translate: Callable[[Images], Images], images: Images) -> Iterator[Images]:
    """Translations of the mirrored and of the moved images, brought back; what leaves on one side enters on the other, which is black."""
    yield translate(np.ascontiguousarray(images[:, :, ::-1]))[:, :, ::-1]
    for down, across in SHIFTS:
        yield np.roll(translate(np.roll(images, (down, across), (1, 2))), (-down, -across), (1, 2))
