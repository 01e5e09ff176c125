"""The one way from a slice to the pixels that the networks see: used for stored slices, simulated pairs and translation alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.errors import UserError
from pipeline.formats.slices import Slice
from pipeline.imaging import head, intensity
from pipeline.imaging import outline as outlines
from pipeline.imaging.outline import Outline

HALO = 0.03  # of the head's side: what lies farther outside the head's outline (head rest, text, fingers) becomes black


class NoHead(UserError):
    """A slice in which no head was found."""


@dataclass(frozen=True)
class Prepared:
    """Network pixels of a slice with all that it takes to undo it.

    `array` (size, size) float32 in 0..1, black outside the head; `mask` (size, size) bool, the head's convex outline; `box` in source
    pixels; `low` and `high`, the source values at 0 and 1.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    box: head.Box
    low: float
    high: float


def find_outline(slice_: Slice, modality: str) -> Outline:
    """The head's outline in source pixels. Raises NoHead when none is found."""
    outline = outlines.find_outline(intensity.view(slice_.pixels, slice_.unit, modality), modality)
    if outline is None:
        raise NoHead(f"no head found in a {modality.upper()} slice of {slice_.pixels.shape[1]}×{slice_.pixels.shape[0]} pixels")
    return outline


def prepare(
    slice_: Slice, modality: str, preprocess: params.Preprocess, box: head.Box | None = None, outline: Outline | None = None
) -> Prepared:
    """Find the head, clear what is not head, normalise, crop and resize with anti-aliasing.

    `box` frames the picture otherwise than by its own head, so that two pictures are cut alike; `outline` is the head's where it is
    already known. Raises NoHead when no head is found.
    """
    outline = outline or find_outline(slice_, modality)
    framed = head.enclose(outline, modality, preprocess.margin, preprocess.upright)
    box = box or framed
    inside = outline.mask(slice_.pixels.shape)
    image, low, high = intensity.normalise(slice_.pixels, slice_.unit, modality, inside, preprocess)
    near = outline.grown(HALO * framed.side).mask(slice_.pixels.shape)
    array = head.crop(np.where(near, image, np.float32(0)), box, preprocess.pixels)
    mask = Outline(box.points_inside(outline.points, preprocess.pixels)).mask(array.shape)
    return Prepared(array, mask, box, low, high)
