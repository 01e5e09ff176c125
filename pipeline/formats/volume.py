"""A whole volume: its slices from foot to head, and what it takes to write others in the same geometry."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.formats.slices import Slice


@dataclass(frozen=True)
class Volume:
    """Slices of one examination, all of the same size, from foot to head.

    format: name of its format in the table. origin: what that format needs to write another volume in its place.
    restore: pictures (N, H, W), one for each slice, to an array in the voxel order of the file.
    calibrated: whether the format knows physical values; a picture file only knows grey.
    warnings: what a person should know, such as missing positions.
    """

    slices: list[Slice] = field(repr=False)
    format: str
    origin: Any = field(default=None, repr=False)
    restore: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = field(default=lambda slices: slices, repr=False)
    calibrated: bool = True
    warnings: list[str] = field(default_factory=list)

    def stored(self, slices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Pictures (N, H, W), one for each slice, in the voxel order of the source. Raises ValueError for another number of them."""
        if len(slices) != len(self.slices):
            raise ValueError(f"{len(slices)} pictures for {len(self.slices)} slices")
        return self.restore(slices)
