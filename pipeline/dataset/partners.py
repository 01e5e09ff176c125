"""The other side of a registered pair: brought onto the pixels of the slice that gets translated, and where it is known there."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.formats.slices import Slice
from pipeline.formats.table import read_stack
from pipeline.imaging import head
from pipeline.imaging.outline import Outline, Scale
from pipeline.imaging.prepare import HALO, NoHead, find_outline
from pipeline.imaging.regrid import onto_grid, same_grid

Mask = NDArray[np.bool_]
WHOLLY = 0.99  # of a pixel inside of the volume


@dataclass(frozen=True)
class Partner:
    """The slice that is to be translated, on whose pixels its truth is needed."""

    path: Path
    frame: int
    modality: str
    outline: list[float]

    @property
    def head(self) -> Outline:
        """The head's outline as the manifest has it."""
        return Outline(np.reshape(self.outline, (-1, 2)))


def move_onto(partner: Partner, path: Path, modality: str, slice_: Slice, outline: Outline) -> tuple[Slice, Outline, Mask]:
    """The truth on the pixels of its partner, the head's outline there, and which pixels (H, W) the volume `path` reaches.

    As it is where both lie on one grid, or places are unknown. Raises UserError where the two volumes share no place.
    """
    moved = _regrid(path, modality, partner.path, partner.modality)
    if moved is None:
        return slice_, outline, np.ones(slice_.pixels.shape, bool)
    slice_, inside = moved[0][partner.frame], moved[1][partner.frame]
    try:
        return slice_, find_outline(slice_, modality), inside
    except NoHead:
        return slice_, partner.head, inside


@lru_cache(maxsize=1)
def _regrid(path: Path, modality: str, partner: Path, other: str) -> tuple[list[Slice], list[Mask]] | None:
    """The slices of the volume `path` on the grid of the volume `partner`, and which of their pixels lie inside of it.

    None where that changes nothing or cannot be known. Raises UserError where the two share no place.
    """
    volume, target = read_stack(path, modality), read_stack(partner, other)
    if volume.affine is None or target.affine is None or min(len(volume.slices), len(target.slices)) < 2 or same_grid(volume, target):
        return None
    moved, inside = onto_grid(volume, target)
    if not inside.any():
        raise UserError(f"{path} and {partner}: a pair whose volumes lie in different places and do not overlap; register them first")
    reached = replace(moved, voxels=inside.astype(np.float32))
    return moved.slices, [slice_.pixels > WHOLLY for slice_ in reached.slices]


def find_known(partner: Partner, inside: Mask, box: head.Box, pixels: int, scale: Scale) -> Mask:
    """Which of the `pixels` × `pixels` of `box` the truth is known in: all but the partner's head where the truth's volume ends.

    `inside`: the pixels that the volume reaches, of `scale`. Outside of the head both sides are cleared.
    """
    reached = head.crop(inside.astype(np.float32), box, pixels, scale) > WHOLLY
    top, bottom, left, right = partner.head.bounds
    near = partner.head.grown(HALO * max(bottom - top, right - left))
    return reached | ~Outline(box.points_inside(near.points, pixels)).mask((pixels, pixels))


def measure_offset(partner: Partner, slice_: Slice, outline: Outline) -> float:
    """Distance between the middles of the heads of truth and partner, as a share of the head's side (the root of its area)."""
    masks = [each.mask(slice_.pixels.shape, slice_.scale) for each in (outline, partner.head)]
    middles = [np.argwhere(mask).mean(axis=0) for mask in masks if mask.any()]
    return float(np.linalg.norm(middles[0] - middles[1]) / np.sqrt(masks[0].sum())) if len(middles) == 2 else 1.0
