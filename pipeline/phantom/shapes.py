"""Solids as signed distances (mm, negative inside), smooth random fields, and how a distance becomes a soft-edged layer."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.tissues import Tissue

Floats = NDArray[np.float32]
Point = tuple[float, float, float]

FAR = 99.0  # mm; distance reported where a solid is out of reach
MARGIN = 5.0  # mm; distances are exact this far outside a solid
COARSE = 8  # pixels; windows and smooth fields are computed on every eighth point


class Layer(NamedTuple):
    """One coat of paint: where `opacity` (H, W) in 0..1 is 1, the tissue replaces whatever lies below."""

    tissue: Tissue
    opacity: Floats


@dataclass(frozen=True)
class Ball:
    """An ellipsoid along the axes; with `wall` only the coat of that thickness outside it; only between the heights `low` and `high`."""

    centre: Point
    radii: Point
    wall: float = 0.0
    low: float = -500.0
    high: float = 500.0
    mirrored: bool = True  # the same again on the other side of the midline

    @property
    def sphere(self) -> tuple[Point, float]:
        return self.centre, max(self.radii) + self.wall

    def mirror(self) -> "Ball":
        return replace(self, centre=(-self.centre[0], *self.centre[1:]))

    def distance(self, points: Floats) -> Floats:
        """Distance at `points` (3, ...): exact on the surface, scaled by the smallest radius elsewhere."""
        squares = sum(((points[a] - np.float32(self.centre[a])) * np.float32(1 / self.radii[a])) ** 2 for a in range(3))
        distance: Floats = (np.sqrt(squares) - np.float32(1)) * np.float32(min(self.radii))
        if self.wall:
            distance = np.abs(distance - np.float32(self.wall / 2)) - np.float32(self.wall / 2)
        if self.low > -500 or self.high < 500:
            distance = np.maximum(distance, np.maximum(self.low - points[2], points[2] - self.high))
        return distance


@dataclass(frozen=True)
class Rod:
    """A rounded rod whose radius changes linearly from start to end."""

    start: Point
    end: Point
    radius: float
    end_radius: float
    mirrored: bool = True

    @property
    def sphere(self) -> tuple[Point, float]:
        a, b = np.asarray(self.start), np.asarray(self.end)
        x, y, z = (a + b) / 2
        return (x, y, z), float(np.linalg.norm(b - a)) / 2 + max(self.radius, self.end_radius)

    def mirror(self) -> "Rod":
        return replace(self, start=(-self.start[0], *self.start[1:]), end=(-self.end[0], *self.end[1:]))

    def distance(self, points: Floats) -> Floats:
        """Distance at `points` (3, ...)."""
        axis = np.asarray(self.end, np.float32) - np.asarray(self.start, np.float32)
        x, y, z = (points[a] - np.float32(self.start[a]) for a in range(3))
        along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) * np.float32(1 / float(axis @ axis)), 0, 1)
        distance: Floats = np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2)
        return distance - (np.float32(self.radius) + along * np.float32(self.end_radius - self.radius))


def union(points: Floats, solids: tuple[Ball | Rod, ...]) -> Floats:
    """Distance to the nearest of `solids` at `points` (3, H, W); FAR where all are out of reach."""
    distance = np.full(points.shape[1:], FAR, np.float32)  # filled in windows, since most solids are small
    both_sides, centres, reaches = _expand_mirrored(solids)
    coarse = points[:, ::COARSE, ::COARSE]
    step = coarse[:, 1, 1] - coarse[:, 0, 0]
    squares = sum((coarse[a] - centres[:, a, None, None]) ** 2 for a in range(3))
    near = squares < ((reaches + np.float32(MARGIN + float(np.sqrt((step * step).sum())))) ** 2)[:, None, None]
    rows, columns = near.any(2), near.any(1)
    for n in np.flatnonzero(rows.any(1)):
        down, across = np.flatnonzero(rows[n]), np.flatnonzero(columns[n])
        window = slice(down[0] * COARSE, (down[-1] + 1) * COARSE), slice(across[0] * COARSE, (across[-1] + 1) * COARSE)
        part = distance[window]
        np.minimum(part, both_sides[n].distance(points[:, window[0], window[1]]), out=part)
    return distance


@lru_cache(maxsize=64)
def _expand_mirrored(solids: tuple[Ball | Rod, ...]) -> tuple[list[Ball | Rod], Floats, Floats]:
    """The solids with their mirror images, their centres (n, 3) and the radii of the spheres around them (n,)."""
    both_sides = [side for solid in solids for side in ((solid, solid.mirror()) if solid.mirrored else (solid,))]
    spheres = [solid.sphere for solid in both_sides]
    return both_sides, np.array([centre for centre, _ in spheres], np.float32), np.array([reach for _, reach in spheres], np.float32)


def smooth_union(first: Floats, second: Floats, radius: float) -> Floats:
    """Union of two solids whose seam is rounded over about `radius` mm (polynomial smooth minimum)."""
    blend = np.maximum(np.float32(radius) - np.abs(first - second), 0) * np.float32(1 / radius)
    distance: Floats = np.minimum(first, second) - blend * blend * np.float32(radius / 4)
    return distance


def soften(distance: Floats, width: Floats | np.floating | float) -> Floats:
    """Opacity of a solid whose edge is spread over `width` mm: 1 inside, 0 outside, 0.5 on the surface."""
    scale = np.float32(-1 / width) if isinstance(width, float) else -1 / width
    opacity: Floats = distance * scale
    opacity += np.float32(0.5)
    return np.clip(opacity, 0, 1, out=opacity)


def draw_waves(points: Floats, generator: np.random.Generator, wavelength: float, count: int = 5) -> Floats:
    """Smooth random field in about -1..1 with features of `wavelength` mm: a sum of plane waves of random direction and phase.

    Long waves are computed on every eighth point of (3, H, W) and enlarged.
    """
    sparse = wavelength >= 40 and points.ndim == 3
    at = points[:, ::COARSE, ::COARSE] if sparse else points
    total = np.zeros(at.shape[1:], np.float32)
    for _ in range(count):
        direction = generator.normal(size=3)
        k = (direction / np.linalg.norm(direction) * 2 * np.pi / (wavelength * generator.uniform(0.7, 1.4))).astype(np.float32)
        total += np.sin(at[0] * k[0] + at[1] * k[1] + at[2] * k[2] + np.float32(generator.uniform(0, 2 * np.pi)))
    total *= np.float32(1 / np.sqrt(count))
    return enlarge(total, points.shape[1:], COARSE) if sparse else total


def enlarge(coarse: Floats, shape: tuple[int, ...], factor: float) -> Floats:
    """Bilinear enlargement: value [i, j] of the result (shape) lies at [i / factor, j / factor] of `coarse`; extrapolated at the end."""
    for axis in (0, 1):
        at = np.arange(shape[axis], dtype=np.float32) / np.float32(factor)
        low = np.minimum(at.astype(np.intp), coarse.shape[axis] - 2)
        part = (at - low)[:, None] if axis == 0 else at - low
        first = np.take(coarse, low, axis)
        coarse = first + (np.take(coarse, low + 1, axis) - first) * part.astype(np.float32)
    return coarse
