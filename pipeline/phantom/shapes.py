"""Solids as signed distances (mm, negative inside), evaluated at any points, and how a distance becomes a soft-edged layer."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.tissues import Tissue

Floats = NDArray[np.float32]
Point = tuple[float, float, float]


class Layer(NamedTuple):
    """One coat of paint: where `opacity` (H, W) in 0..1 is 1, the tissue replaces whatever lies below."""

    tissue: Tissue
    opacity: Floats


def ellipsoid(points: Floats, centre: Point, radii: Point) -> Floats:
    """Near-distance to an axis-aligned ellipsoid: exact on its surface, scaled by the mean radius elsewhere."""
    squares = sum(((points[a] - np.float32(centre[a])) * np.float32(1 / radii[a])) ** 2 for a in range(3))
    found: Floats = (np.sqrt(squares) - np.float32(1)) * np.float32(min(radii))
    return found


def capsule(points: Floats, start: Point, end: Point, radius: float, end_radius: float | None = None) -> Floats:
    """Distance to a rounded rod from `start` to `end` whose radius changes linearly to `end_radius`."""
    axis = np.asarray(end, np.float32) - np.asarray(start, np.float32)
    x, y, z = (points[a] - np.float32(start[a]) for a in range(3))
    along = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) * np.float32(1 / float(axis @ axis)), 0, 1)
    distance = np.sqrt((x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2)
    found: Floats = distance - np.float32(radius)
    if end_radius is not None:
        found = found - along * np.float32(end_radius - radius)
    return found


def both_sides(points: Floats) -> Floats:
    """The points with x made positive: a solid described once on the right then appears on both sides."""
    return np.stack([np.abs(points[0]), points[1], points[2]])


def shell(distance: Floats, thickness: float) -> Floats:
    """The wall of `thickness` mm just outside a solid."""
    found: Floats = np.abs(distance - np.float32(thickness / 2)) - np.float32(thickness / 2)
    return found


def smooth_union(first: Floats, second: Floats, radius: float) -> Floats:
    """Union of two solids whose seam is rounded over about `radius` mm (polynomial smooth minimum)."""
    blend = np.maximum(np.float32(radius) - np.abs(first - second), 0) * np.float32(1 / radius)
    found: Floats = np.minimum(first, second) - blend * blend * np.float32(radius / 4)
    return found


def soft(distance: Floats, width: Floats | float) -> Floats:
    """Opacity of a solid whose edge is spread over `width` mm: 1 inside, 0 outside, 0.5 on the surface."""
    found: Floats = np.clip(np.float32(0.5) - distance / np.maximum(width, np.float32(1e-3)), 0, 1).astype(np.float32)
    return found


def waves(points: Floats, generator: np.random.Generator, wavelength: float, count: int = 5) -> Floats:
    """Smooth random field in about -1..1 with features of `wavelength` mm: a sum of plane waves of random direction and phase."""
    total = np.zeros(points.shape[1:], np.float32)
    for _ in range(count):
        direction = generator.normal(size=3)
        k = (direction / np.linalg.norm(direction) * 2 * np.pi / (wavelength * generator.uniform(0.7, 1.4))).astype(np.float32)
        total += np.sin(points[0] * k[0] + points[1] * k[1] + points[2] * k[2] + np.float32(generator.uniform(0, 2 * np.pi)))
    return total * np.float32(1 / np.sqrt(count))
