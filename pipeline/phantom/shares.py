"""A slice as shares of tissues in each pixel, in bytes: all that it takes to draw it as any scanner would show it.

CT and MR are linear in the tissues' values, so a picture is the sum over a pixel's tissues of share times value, whatever the values are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.anatomy import Plane
from pipeline.phantom.frames import FIELD_OF_VIEW, make_frame
from pipeline.phantom.shapes import Floats, Layer
from pipeline.phantom.tissues import PROPERTIES, Tissue

MOST = 4  # tissues of a pixel that are stored; the rest is shared out among them
CHANNELS = 2 * MOST + 1
DEPTH_STEP, DEEPEST = 0.5, 90.0  # mm; a depth code of n + 1 says that the inner skull lies n steps above the deepest place
TISSUES = len(PROPERTIES)
FINE = 192  # pixels of 256 mm that slices are cut with, near what the atlas resolves


@dataclass(frozen=True)
class Shares:
    """Tissue shares of a slice (H, W) on a grid of `spacing` mm, whose middle is the middle of the picture that the slice was cut for.

    tissue (MOST, H, W) uint8 of `Tissue` and weight (MOST, H, W) uint8, 255 in sum, in falling order; depth (H, W) uint8: 0 outside the
    head, else 1 and the steps of DEPTH_STEP mm by which the inner table of the skull lies above -DEEPEST mm, negative inside.
    """

    tissue: NDArray[np.uint8]
    weight: NDArray[np.uint8]
    depth: NDArray[np.uint8]
    spacing: float

    def stack(self) -> NDArray[np.uint8]:
        """As it is stored: (CHANNELS, H, W), tissues, then weights, then depth."""
        return np.concatenate([self.tissue, self.weight, self.depth[None]])

    def draw(self, value: dict[Tissue, float] | Floats) -> Floats:
        """The picture (H, W) in which each tissue has its value."""
        table = np.array([value[tissue] for tissue in Tissue], np.float32) if isinstance(value, dict) else value
        picture: Floats = (table[self.tissue] * self.weight).sum(0) * np.float32(1 / 255)
        return picture


def shrink_for(pixels: int) -> int:
    """How many fine pixels a side become one for networks that see `pixels`: what is stored has 1.5 times as many a side, or `FINE`."""
    return max(1, 2 * FINE // (3 * pixels))


def grid_shape(pixels: int) -> tuple[int, int]:
    """Rows and columns that are stored for networks that see `pixels` a side."""
    frame, shrink = make_frame(FINE, FIELD_OF_VIEW / FINE), shrink_for(pixels)
    return frame.rows // shrink, frame.columns // shrink


def grid_spacing(pixels: int) -> float:
    """Millimetres between them."""
    return FIELD_OF_VIEW / FINE * shrink_for(pixels)


def mix(layers: list[Layer]) -> tuple[list[Tissue], Floats]:
    """The tissues of layers painted one over the other on air, in order, and the share of each (n, H, W), 1 in sum."""
    present = sorted({Tissue.AIR, *(layer.tissue for layer in layers)})
    shares = np.zeros((len(present), *layers[0].opacity.shape), np.float32)
    shares[present.index(Tissue.AIR)] = 1
    painted = {Tissue.AIR}
    for tissue, opacity in layers:
        left = 1 - opacity
        for below in painted:
            shares[present.index(below)] *= left
        shares[present.index(tissue)] += opacity
        painted.add(tissue)
    return present, shares


def store(plane: Plane, shrink: int = 1) -> Shares:
    """The shares of `plane`, each pixel the mean of `shrink` × `shrink` of its grid; rows and columns left over are cut off evenly."""
    present, mixed = mix(plane.layers)
    shares = np.zeros((max(MOST, len(present)), plane.head.shape[0] // shrink, plane.head.shape[1] // shrink), np.float32)
    shares[: len(present)] = _shrink(mixed, shrink)
    code = np.zeros(len(shares), np.uint8)
    code[: len(present)] = present
    weight, tissue = np.zeros((MOST, *shares.shape[1:]), np.float32), np.zeros((MOST, *shares.shape[1:]), np.uint8)
    for n in range(MOST):  # the largest, again and again: far cheaper than sorting all
        largest = shares.argmax(0)[None]
        weight[n] = np.take_along_axis(shares, largest, 0)[0]
        tissue[n] = code[largest[0]]
        np.put_along_axis(shares, largest, -1, 0)
    weight = np.maximum(weight, 0)
    weight *= 255 / weight.sum(0)
    whole = np.rint(weight)
    whole[0] += 255 - whole.sum(0)  # what rounding leaves over goes to the largest
    inner, head = _shrink(np.stack([plane.inner_skull, plane.head]), shrink)
    distance = 1 + np.clip(np.rint((inner + DEEPEST) / DEPTH_STEP), 0, 254)
    depth = np.where(head < 0, distance, 0)
    spacing = plane.frame.grid_spacing * shrink
    return Shares(tissue, whole.astype(np.uint8), depth.astype(np.uint8), spacing)


def _shrink(values: Floats, factor: int) -> Floats:
    if factor == 1:
        return values
    count, height, width = values.shape
    rows, columns = height // factor, width // factor
    top, left = (height - rows * factor) // 2, (width - columns * factor) // 2
    part = values[:, top : top + rows * factor, left : left + columns * factor]
    mean: Floats = part.reshape(count, rows, factor, columns, factor).mean((2, 4), dtype=np.float32)
    return mean
