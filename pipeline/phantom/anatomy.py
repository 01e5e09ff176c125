"""A subject's head as tissue layers on any oblique slice plane.

The plane's points are carried into MNI space (size, tilt, a smooth random deformation, mass effect of a lesion), where the brain is
read from the atlas, the skull and scalp grow outward from the brain hull by distance, and the low slices get their face and skull
base from analytic solids (`face.py`). Distances are three-dimensional, so that the skull thickens in slices near the vertex as it
does in real ones, and neighbouring slices of a subject fit together.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.phantom import face, lesions
from pipeline.phantom.atlas import atlas
from pipeline.phantom.shapes import Floats, Layer, capsule, ellipsoid, smooth_union, soft, waves
from pipeline.phantom.tissues import Tissue

BOTTOM, TOP = -72.0, 76.0  # mm; height in the head of slice position 0 (skull base) and 1 (vertex)


@dataclass(frozen=True)
class Subject:
    """What differs between people; lengths in mm, angles in radians. Drawn by `draw_subject`."""

    seed: int
    scale: tuple[float, float, float]  # size of this head relative to the atlas, per axis
    tilt: tuple[float, float, float]  # rotation about x (nodding), y (ear to shoulder), z (turning)
    warp: float  # amplitude of the smooth deformation
    atrophy: float  # 0 (young, sulci filled) .. 1 (old, sulci wide)
    ventricles: float  # growth of the ventricles
    fluid_gap: float  # between brain hull and skull
    skull: float  # thickness
    scalp: float
    diploe: float  # share of the skull's thickness that is marrow
    petrous_air: float  # -1 (mastoid solid) .. 1 (full of air cells)
    sinus_fill: float  # share of sinuses that hold mucosa instead of air
    calcified: bool  # pineal gland and choroid plexus
    lesion: lesions.Lesion | None


@dataclass(frozen=True)
class Plane:
    """A slice through one subject: layers from the outside in, and masks (size, size)."""

    layers: list[Layer]
    head: Floats  # distance to the skin, mm, negative inside
    inner_skull: Floats  # distance to the inner table, mm, negative inside the cranium
    lesion: Floats  # opacity of the lesion, 0..1


def draw_subject(seed: int, lesion_chance: float = 0.35) -> Subject:
    """The anatomy that belongs to `seed`."""
    g = np.random.default_rng([seed, 1])
    age = float(g.uniform(0, 1))
    size = 0.93 + 0.045 * g.normal()
    return Subject(
        seed=seed,
        scale=(
            float(size * (1 + 0.035 * g.normal())),
            float(size * (1 + 0.035 * g.normal())),
            float(size * (1 + 0.04 * g.normal())),
        ),
        tilt=(float(np.deg2rad(g.normal(4, 8))), float(np.deg2rad(g.normal(0, 3))), float(np.deg2rad(g.normal(0, 5)))),
        warp=float(g.uniform(0.8, 3.0)),
        atrophy=float(np.clip(age + 0.2 * g.normal(), 0, 1)),
        ventricles=float(np.clip(5.0 * age**2 + 1.2 * g.normal(), -1.0, 9.0)),
        fluid_gap=float(0.6 + 2.2 * age * g.uniform(0.3, 1)),
        skull=float(np.clip(g.normal(7.0, 1.3), 4.0, 11.0)),
        scalp=float(np.clip(g.normal(5.5, 1.8), 2.5, 11.0)),
        diploe=float(g.uniform(0.25, 0.6)),
        petrous_air=float(g.uniform(-0.6, 0.9)),
        sinus_fill=float(g.uniform(0, 0.35)) if g.random() < 0.6 else float(g.uniform(0.4, 1)),
        calcified=bool(g.random() < 0.2 + 0.6 * age),
        lesion=lesions.draw(g) if g.random() < lesion_chance else None,
    )


def slice_points(subject: Subject, position: float, size: int, spacing: float) -> Floats:
    """MNI coordinates (3, size, size) in mm of the pixels of the slice at `position` (0 skull base .. 1 vertex); the top row is the front."""
    offset = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(spacing)
    right, front = np.meshgrid(offset, -offset)
    flat = np.stack([right, front, np.zeros_like(right)]).reshape(3, -1)
    points = (_rotation(subject.tilt) @ flat).reshape(3, size, size)
    points /= np.asarray(subject.scale, np.float32)[:, None, None]
    points += np.array([0, -14, BOTTOM + position * (TOP - BOTTOM)], np.float32)[:, None, None]
    # The deformation is smooth: computed on every eighth point and enlarged.
    coarse = points[:, ::8, ::8]
    g = np.random.default_rng([subject.seed, 2])
    zoom = size / coarse.shape[1]
    for axis in range(3):
        field = waves(coarse, g, 110.0, 4) * subject.warp + waves(coarse, g, 45.0, 4) * subject.warp * 0.3
        points[axis] += ndimage.zoom(field, zoom, order=1, mode="nearest", grid_mode=False)
    if subject.lesion is not None:
        points = lesions.push(points, subject.lesion)
    return points


def cut(subject: Subject, position: float, size: int, spacing: float, thickness: float) -> Plane:
    """The slice at `position`, pixels of `spacing` mm, as thick as `thickness` mm."""
    points = slice_points(subject, position, size, spacing)
    g = np.random.default_rng([subject.seed, 3])
    maps = atlas()
    hull = maps.hull.at(points, 99.0)
    edge = np.float32(max(spacing, 1.0))
    slant = _slant(hull, spacing, thickness, float(edge))
    lumps = waves(points, g, 60.0)
    inner = hull - np.float32(subject.fluid_gap)
    table = np.float32(subject.skull) * (1 + np.float32(0.1) * lumps) * (1 + np.float32(0.0035) * np.clip(-points[1] - 30, -20, 60))
    outer = inner - table
    scalp = np.float32(subject.scalp) * (1 + np.float32(0.12) * waves(points, g, 80.0))
    low = points[2].min() < face.TOP
    head = outer - scalp
    if low:
        head = smooth_union(head, face.surface(points), 14.0)
    layers = [Layer(Tissue.SKIN, soft(head, slant)), Layer(Tissue.FAT, soft(head + 1.8, edge))]
    if low:
        layers += face.soft_tissue(points, head, g, float(edge))
    layers.append(Layer(Tissue.MUSCLE, soft(np.maximum(_temporalis(points), head + 4), edge)))
    layers.append(Layer(Tissue.BONE, soft(outer, slant)))
    marrow = np.abs(inner - table * np.float32(0.45)) - table * np.float32(0.5 * subject.diploe)
    layers.append(Layer(Tissue.MARROW, soft(marrow, slant) * np.float32(0.8)))
    layers.append(Layer(Tissue.DURA, soft(inner, slant)))
    layers.append(Layer(Tissue.CSF, soft(inner + 0.7, slant)))
    if low:
        layers += face.skull_base(points, inner, subject.petrous_air, g, float(edge))
    layers += _brain(points, subject, inner, float(edge))
    if low:
        layers += face.cavities(points, inner, subject.sinus_fill, g, float(edge))
    lesion = np.zeros((size, size), np.float32)
    if subject.lesion is not None:
        inside = soft(inner + 1.5, edge)
        lesion_layers, lesion = lesions.paint(points, subject.lesion, inside, float(edge))
        layers += lesion_layers
    return Plane(layers, head, inner, lesion)


def _rotation(tilt: tuple[float, float, float]) -> Floats:
    (cx, cy, cz), (sx, sy, sz) = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_x @ about_y @ about_z).astype(np.float32)


def _slant(distance: Floats, spacing: float, thickness: float, edge: float) -> Floats:
    """Width in mm over which a surface is blurred in a thick slice: grows where the surface runs along the plane (partial volume)."""
    down, across = np.gradient(distance, spacing)
    along_plane = np.clip(down**2 + across**2, 0, 1)
    found: Floats = np.sqrt(edge**2 + thickness**2 * (1 - along_plane)).astype(np.float32)
    return found


def _temporalis(points: Floats) -> Floats:
    mirrored = np.stack([np.abs(points[0]), points[1], points[2]])
    return ellipsoid(mirrored, (66.0, 14.0, -22.0), (13.0, 32.0, 42.0))


def _brain(points: Floats, subject: Subject, inner: Floats, edge: float) -> list[Layer]:
    maps = atlas()
    grey = maps.grey.at(points) * np.float32(1 / 255)
    white = maps.white.at(points) * np.float32(1 / 255)
    tissue = np.clip((grey + white - np.float32(0.3 + 0.42 * subject.atrophy)) * np.float32(2.8) + np.float32(0.25), 0, 1)
    white_share = np.clip((white / np.maximum(grey + white, np.float32(0.05)) - np.float32(0.5)) * np.float32(1.5) + np.float32(0.5), 0, 1)
    within = soft(inner + 1.0, edge)
    chambers = soft(maps.ventricles.at(points, 99.0) - np.float32(subject.ventricles), edge * 1.3)
    layers = [
        Layer(Tissue.GREY, tissue * within),
        Layer(Tissue.WHITE, tissue * white_share * within),
        Layer(Tissue.CSF, chambers * within),
    ]
    return layers + _midline(points, subject, inner, edge)


def _midline(points: Floats, subject: Subject, inner: Floats, edge: float) -> list[Layer]:
    """Falx, sagittal sinus, arteries at the base, and the calcified pineal gland and choroid plexus."""
    within = soft(inner, edge)
    above_callosum = (1 - (points[1] + 15) ** 2 / 60**2 - (points[2] - 5) ** 2 / 33**2) * 20
    falx = np.maximum(np.abs(points[0]) - np.float32(0.6), above_callosum)
    sinus = np.where(inner > -9, np.abs(points[0]) * np.float32(0.9) - np.float32(5.0) - inner * np.float32(0.6), 9).astype(np.float32)
    layers = [
        Layer(Tissue.DURA, soft(falx, edge * 1.2) * within * np.float32(0.7)),
        Layer(Tissue.SINUS_BLOOD, soft(sinus, edge) * within * (points[2] > -25) * ((points[1] < -20) | (points[2] > 40))),
    ]
    if points[2].min() < 0 < points[2].max() + 35:
        side = np.stack([np.abs(points[0]), points[1], points[2]])
        vessels = np.minimum(
            capsule(side, (2.0, 0.0, -14.0), (34.0, 6.0, -16.0), 1.5),
            np.minimum(capsule(points, (0, -9, -38), (0, -8, -16), 1.7), capsule(side, (10.0, 4.0, -32.0), (10.0, 4.0, -14.0), 2.2)),
        )
        layers.append(Layer(Tissue.ARTERY, soft(vessels, edge) * within))
    if subject.calcified:
        side = np.stack([np.abs(points[0]), points[1], points[2]])
        spots = np.minimum(ellipsoid(points, (0, -28, 1), (2.5, 2.5, 3)), ellipsoid(side, (25.0, -43.0, 8.0), (3.0, 3.0, 4.0)))
        layers.append(Layer(Tissue.CALCIUM, soft(spots, edge)))
    return layers
