"""The one way from a slice to the pixels that the networks see: used for stored slices, simulated pairs and translation alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline import params
from pipeline.errors import UserError
from pipeline.imaging import head, intensity
from pipeline.imaging.readers import Slice

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


def prepare(slice_: Slice, modality: str, preprocess: params.Preprocess, box: head.Box | None = None) -> Prepared:
    """Find the head (or take `box`, to frame two pictures alike), clear what is not head, normalise, crop and resize with anti-aliasing.

    Raises NoHead when no head is found.
    """
    outline = head.head_mask(intensity.view(slice_.pixels, slice_.unit, modality), modality)
    framed = head.box_of(outline, preprocess.margin)
    if framed is None:
        raise NoHead(f"no head found in a {modality.upper()} slice of {slice_.pixels.shape[1]}×{slice_.pixels.shape[0]} pixels")
    box = box or framed
    image, low, high = intensity.to_unit(slice_.pixels, slice_.unit, modality, outline, preprocess)
    near = ndimage.distance_transform_edt(~outline) <= HALO * framed.side
    array = head.crop(np.where(near, image, np.float32(0)), box, preprocess.size)
    mask = head.crop(outline.astype(np.float32), box, preprocess.size) > 0.5
    return Prepared(array, mask, box, low, high)
