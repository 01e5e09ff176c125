"""The one way from a slice to the pixels that the networks see: used for stored slices, simulated pairs and translation alike."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.domain import Modality
from pipeline.errors import UserError
from pipeline.formats.slices import Slice
from pipeline.imaging import head, intensity
from pipeline.imaging import outline as outlines
from pipeline.imaging.outline import Outline, Scale

HALO = 0.03  # of the head's side: what lies farther outside the head's outline (head rest, text, fingers) becomes black
FEW = 8  # slices; fewer say little of a volume
DIM = 0.2  # of the brightness of a volume's brighter slices; real heads at the end of a coil are brighter
STEADY = 10.0  # mm along a volume over which frame and intensity range are averaged, so that neighbouring slices are seen alike


class NoHead(UserError):
    """A slice in which no head was found."""


@dataclass(frozen=True)
class Prepared:
    """Network pixels of a slice with all that it takes to undo it.

    `array` (size, size) float32 in 0..1, 0 outside the head: of CT on the scale of `intensity.ct_to_unit`, of MR between `low` and `high`.
    `mask` (size, size) bool, the head's convex outline; `box` and `scale` of the source's pixels, in millimetres where the slice knows its
    spacing, else in pixels. `low` and `high`: of MR the source values at 0 and 1; of CT the Hounsfield units that the slice knows at all.
    """

    array: NDArray[np.float32]
    mask: NDArray[np.bool_]
    box: head.Box
    scale: Scale
    low: float
    high: float


def find_outline(slice_: Slice, modality: str) -> Outline:
    """The head's outline, in millimetres where the slice knows its spacing, else in pixels. Raises NoHead when none is found."""
    outline = outlines.find_outline(intensity.view(slice_.pixels, slice_.unit, modality), modality, slice_.scale)
    if outline is None:
        raise NoHead(f"no head found in a {modality.upper()} slice of {slice_.pixels.shape[1]}×{slice_.pixels.shape[0]} pixels")
    return outline


def frame_head(slice_: Slice, outline: Outline, modality: str, preprocess: params.Preprocess) -> head.Box:
    """The square that the networks see of a slice: `field_of_view` millimetres around the head's middle, so that a small head stays small.

    Where the slice does not know its spacing, or no field of view is set, the head itself with its margin.
    """
    box = head.enclose(outline, modality, preprocess.margin, preprocess.upright)
    side = preprocess.field_of_view
    if slice_.spacing is None or side is None:
        return box
    return replace(box, top=box.top + (box.side - side) / 2, left=box.left + (box.side - side) / 2, side=side)


def prepare(
    slice_: Slice,
    modality: str,
    preprocess: params.Preprocess,
    box: head.Box | None = None,
    outline: Outline | None = None,
    levels: tuple[float, float] | None = None,
) -> Prepared:
    """Find the head, clear what is not head, normalise, crop and resize with anti-aliasing.

    `box` frames the picture otherwise than by its own head, so that two pictures are cut alike; `outline` is the head's where it is
    already known; `levels`, an MR's source values at 0 and 1, where not by the slice itself. Raises NoHead when no head is found.
    """
    outline = outline or find_outline(slice_, modality)
    box = box or frame_head(slice_, outline, modality, preprocess)
    shape, scale = slice_.pixels.shape, slice_.scale
    low, high = levels or _levels(slice_, outline, modality, preprocess)
    if modality == Modality.CT:
        image = intensity.ct_units(slice_.pixels, slice_.unit, preprocess.ct_window)
    else:
        image = intensity.stretch(slice_.pixels, low, high)
    top, bottom, left, right = outline.bounds
    near = outline.grown(HALO * max(bottom - top, right - left)).mask(shape, scale)
    array = head.crop(np.where(near, image, np.float32(0)), box, preprocess.pixels, scale)
    mask = Outline(box.points_inside(outline.points, preprocess.pixels)).mask(array.shape)
    return Prepared(array, mask, box, scale, low, high)


def find_outlines(slices: Sequence[Slice], modality: str) -> dict[int, Outline]:
    """The head's outline in those slices of a volume, by their number, in which there is one."""
    outlines = {}
    for number, (slice_, dim) in enumerate(zip(slices, find_dim(slices, modality), strict=True)):
        with suppress(NoHead):
            if not dim:
                outlines[number] = find_outline(slice_, modality)
    return outlines


def find_dim(slices: Sequence[Slice], modality: str) -> list[bool]:
    """Which slices of an MR volume are noise beside the others, as those above the vertex: seen alone, noise may pass for a head."""
    if modality == Modality.CT or len(slices) < FEW:
        return [False] * len(slices)
    bright = np.array([np.percentile(slice_.pixels[::2, ::2], 99.5) for slice_ in slices])
    dark = min(float(slice_.pixels.min()) for slice_ in slices)
    return [bool(level - dark < DIM * (np.percentile(bright, 75) - dark)) for level in bright]


def prepare_volume(
    slices: Sequence[Slice], modality: str, preprocess: params.Preprocess, outlines: Mapping[int, Outline]
) -> list[Prepared | None]:
    """Network pixels of each slice of a volume with one of the head's `outlines`; None for the others.

    Frame and intensity range are averaged over STEADY millimetres along the volume: measured slice by slice they jump, and the
    translations of neighbouring slices with them. Slices of unknown place are prepared one by one.
    """
    prepared: list[Prepared | None] = [None] * len(slices)
    places = [slices[number].position for number in outlines]
    if len(outlines) < 2 or any(place is None for place in places):
        for number, outline in outlines.items():
            prepared[number] = prepare(slices[number], modality, preprocess, outline=outline)
        return prepared
    boxes = [frame_head(slices[number], outline, modality, preprocess) for number, outline in outlines.items()]
    levels = [_levels(slices[number], outline, modality, preprocess) for number, outline in outlines.items()]
    facts = np.array([(box.top + box.side / 2, box.left + box.side / 2, box.side, *pair) for box, pair in zip(boxes, levels, strict=True)])
    apart = np.subtract.outer(np.array(places, float), np.array(places, float))
    weights = np.exp(-0.5 * np.square(apart / STEADY))  # Gaussian
    steady = (weights @ facts / weights.sum(axis=1, keepdims=True)).tolist()
    for (number, outline), box, (down, across, side, low, high) in zip(outlines.items(), boxes, steady, strict=True):
        frame = replace(box, top=down - side / 2, left=across - side / 2, side=side)
        prepared[number] = prepare(slices[number], modality, preprocess, frame, outline, (low, high))
    return prepared


def _levels(slice_: Slice, outline: Outline, modality: str, preprocess: params.Preprocess) -> tuple[float, float]:
    """What `Prepared.low` and `high` are for this slice.

    A CT picture's window is not written in it: it is taken for `preprocess.ct_window`. Of MR `mr_percentiles` inside the outline (of the
    whole picture where that is empty).
    """
    if modality == Modality.CT:
        in_units = slice_.unit == "hu"
        return (intensity.CT_LOWEST, intensity.CT_HIGHEST) if in_units else intensity.window_bounds(preprocess.ct_window)
    mask = outline.mask(slice_.pixels.shape, slice_.scale)
    low, high = np.percentile(slice_.pixels[mask] if mask.any() else slice_.pixels, preprocess.mr_percentiles)
    return float(low), float(high)
