"""A subject's head as tissue layers on any oblique slice plane.

The plane's points are carried into MNI space (size, tilt, a smooth random deformation, mass effect of a lesion), where the brain is
read from the atlas, the skull and scalp grow outward from the brain hull by distance, and the low slices get their face and skull
base from analytic solids (`face.py`). Distances are three-dimensional, so that the skull thickens in slices near the vertex as it
does in real ones, and neighbouring slices of a subject fit together.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.phantom import face, lesions, surgery
from pipeline.phantom.atlas import load_atlas
from pipeline.phantom.frames import Frame, make_frame
from pipeline.phantom.shapes import FAR, Ball, Floats, Layer, Rod, draw_waves, enlarge, smooth_union, soften, union
from pipeline.phantom.tissues import Tissue

Orientation = Literal["axial", "coronal", "sagittal"]
# Where columns and rows run: to the right (0), front (1) or head (2). A sagittal slice has the front at its top, as an axial one.
DIRECTIONS: dict[Orientation, tuple[int, int]] = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (2, 1)}
MIDDLE = -14.0  # mm to the front, of MNI: where pictures have their middle
BOTTOM, TOP = -72.0, 76.0  # mm; height in the head of slice position 0 (skull base) and 1 (top of the brain)

TEMPORALIS = Ball((66, 14, -22), (13, 32, 42))
ARTERIES = (
    Rod((2, 0, -14), (34, 6, -16), 1.5, 1.2),  # middle cerebral
    Rod((0, -9, -38), (0, -8, -16), 1.7, 1.7, mirrored=False),  # basilar
    Rod((10, 4, -32), (10, 4, -14), 2.2, 2.2),  # carotid
)
CALCIFIED = (Ball((0, -28, 1), (2.5, 2.5, 3), mirrored=False), Ball((25, -43, 8), (3, 3, 4)))


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
    surgery: surgery.Surgery | None
    dental: float  # share of teeth with metal


@dataclass(frozen=True)
class Plane:
    """A slice through one subject: layers from the outside in, and distances, all on the frame's coarser grid (rows, columns)."""

    frame: Frame
    layers: list[Layer]
    head: Floats  # distance to the skin, mm, negative inside
    inner_skull: Floats  # distance to the inner table, mm, negative inside the cranium
    lesion: Floats  # opacity of the lesion, 0..1


def draw_subject(seed: int, lesion_chance: float = 0.35, surgery_chance: float = 0.12) -> Subject:
    """The anatomy that belongs to `seed`: one of eight a child."""
    g = np.random.default_rng([seed, 1])
    child, age = bool(g.random() < 0.125), float(g.uniform(0, 1))
    size = g.uniform(0.76, 0.95) if child else 0.965 + 0.045 * g.normal()
    age = 0.0 if child else age
    wide = g.random() < 0.04  # hydrocephalus
    ventricles = g.uniform(7, 14) if wide else np.clip(1.0 + 4.5 * age**2 + 1.2 * g.normal(), -1.0, 9.0)
    return Subject(
        seed=seed,
        scale=(
            float(size * (0.985 + 0.035 * g.normal())),
            float(size * (1 + 0.035 * g.normal())),
            float(size * (1 + 0.04 * g.normal())),
        ),
        tilt=(
            float(np.deg2rad(g.normal(4, 8))),
            float(np.deg2rad(g.normal(0, 3))),
            float(np.deg2rad(g.normal(0, 5 if g.random() < 0.85 else 15))),
        ),
        warp=float(g.uniform(0.8, 3.0)),
        atrophy=float(np.clip(age + 0.2 * g.normal(), 0, 1)),
        ventricles=float(ventricles),
        fluid_gap=float(0.6 + 2.2 * age * g.uniform(0.3, 1)),
        skull=float(g.uniform(2.0, 5.0) if child else np.clip(g.normal(7.0, 1.8), 3.0, 12.0)),
        scalp=float(np.clip(g.normal(4.0 if child else 5.5, 1.8), 2.5, 11.0)),
        diploe=float(g.uniform(0.1, 0.3) if child else g.uniform(0.25, 0.6)),
        petrous_air=float(g.uniform(-0.6, 0.9)),
        sinus_fill=float(g.uniform(0, 0.35)) if g.random() < 0.6 else float(g.uniform(0.4, 1)),
        calcified=bool(g.random() < 0.2 + 0.6 * age),
        lesion=lesions.draw(g) if g.random() < lesion_chance else None,
        surgery=surgery.draw(g) if g.random() < surgery_chance else None,
        dental=float(g.uniform(0.1, 0.5) if g.random() < 0.4 and not child else 0.0),
    )


def centre_at(position: float) -> Floats:
    """MNI coordinates (3,) of the middle of the slice at `position` (0 skull base .. 1 top of the brain)."""
    return np.array([0, MIDDLE, BOTTOM + position * (TOP - BOTTOM)], np.float32)


def centre_along(subject: Subject, height: float) -> Floats:
    """MNI coordinates (3,) of the middle of the plane `height` mm above the one through the head's middle, across the planes."""
    up = _rotation(subject.tilt)[:, 2] / np.asarray(subject.scale, np.float32)
    return (np.array([0, MIDDLE, 0]) + up * height).astype(np.float32)


def place_points(subject: Subject, centre: Floats, frame: Frame, orientation: Orientation = "axial") -> Floats:
    """MNI coordinates (3, rows, columns) in mm of the slice around `centre`, whose columns and rows run as `DIRECTIONS` says."""
    down, across = frame.offsets()
    axes = _rotation(subject.tilt) / np.asarray(subject.scale, np.float32)[:, None]
    along_columns, along_rows = DIRECTIONS[orientation]
    # Without a matrix product: its threads would fight with those of the other worker processes.
    sideways, upwards = axes[:, along_columns, None, None] * across[None, None, :], axes[:, along_rows, None, None] * -down[None, :, None]
    points = sideways + upwards + centre[:, None, None]
    g = np.random.default_rng([subject.seed, 2])
    bend = [draw_waves(points, g, 110.0, 4) * subject.warp + draw_waves(points, g, 45.0, 4) * subject.warp * 0.3 for _ in range(3)]
    points += np.asarray(bend, np.float32)
    if subject.lesion is not None:
        points = lesions.push(points, subject.lesion)
    return points


def cut(subject: Subject, position: float, size: int, spacing: float, thickness: float) -> Plane:
    """The slice at `position`, `size` pixels of `spacing` mm a side, as thick as `thickness` mm."""
    return cut_around(subject, centre_at(position), size, spacing, thickness)


def cut_around(subject: Subject, centre: Floats, size: int, spacing: float, thickness: float, orientation: Orientation = "axial") -> Plane:
    """The slice whose middle is `centre` in MNI coordinates; the rest as for `cut`."""
    frame = make_frame(size, spacing)
    points = place_points(subject, centre, frame, orientation)
    skull = _measure_skull(points, subject, frame.grid_spacing, thickness)
    inner, edge = skull.inner, skull.edge
    layers = _paint_scalp(points, subject, skull)
    layers += _paint_vault(subject, skull)
    if skull.low:
        layers += face.paint_skull_base(points, subject.petrous_air, subject.seed, edge)
        layers += face.paint_jaw(points, subject.dental, subject.seed, edge)
    if subject.surgery is not None:
        layers += surgery.paint_opening(subject.surgery, skull.rim, inner, skull.outer, edge)
    layers += _brain(points, subject, inner, edge)
    if skull.low:
        layers += face.paint_cavities(points, inner, subject.sinus_fill, subject.seed, edge)
    lesion = np.zeros_like(inner)
    if subject.lesion is not None:
        lesion_layers, lesion = lesions.paint(points, subject.lesion, inner, edge)
        layers += lesion_layers
    if subject.surgery is not None:
        layers += surgery.paint_contents(points, subject.surgery, skull.rim, inner, skull.outer, edge)
    return Plane(frame, layers, skull.head, inner, lesion)


@dataclass(frozen=True)
class Skull:
    """Distances to the surfaces of the vault and the skin at the points of a plane, mm, negative inside."""

    inner: Floats
    outer: Floats
    head: Floats
    table: Floats  # thickness
    rim: Floats  # edge of a surgical opening; far where there is none
    slant: Floats  # width over which surfaces are blurred
    edge: float  # the same, where they stand across the plane
    low: bool  # whether face or neck reach into the plane


def _measure_skull(points: Floats, subject: Subject, spacing: float, thickness: float) -> Skull:
    g = np.random.default_rng([subject.seed, 3])
    coarse = max(1, round(3 / spacing))  # the hull is smooth: read every 3 mm
    hull = enlarge(load_atlas().hull.sample(points[:, ::coarse, ::coarse], FAR), points.shape[1:], coarse)
    edge = max(spacing, 1.0)
    x, y, z = np.abs(points[0]), points[1], points[2]
    squama: Floats = np.exp(-(((x - 66) / 16) ** 2) - ((y + 18) / 38) ** 2 - ((z + 4) / 26) ** 2)  # thin beside the temporal lobe
    inner = hull - np.float32(subject.fluid_gap)
    table = np.float32(subject.skull) * (1 + np.float32(0.15) * draw_waves(points, g, 60.0))
    table *= (1 + np.float32(0.0035) * np.clip(-y - 30, -20, 60)) * (1 - np.float32(0.5) * squama)
    outer = inner - np.maximum(table, 1.5)
    scalp = np.float32(subject.scalp) * (1 + np.float32(0.12) * draw_waves(points, g, 80.0))
    rim = np.full_like(inner, FAR)
    if subject.surgery is not None:
        rim = surgery.measure(points, subject.surgery)
        scalp += np.float32(subject.surgery.swelling) * soften(rim, 20.0)
    head = outer - scalp
    low = bool((z[(hull < 30) | (z < face.BRAIN_ENDS)] < face.TOP).any())
    if low:
        head = smooth_union(head, face.measure_skin(points), 14.0)
    return Skull(inner, outer, head, table, rim, _measure_blur(hull, spacing, thickness, edge), edge, low)


def _paint_scalp(points: Floats, subject: Subject, skull: Skull) -> list[Layer]:
    head, edge = skull.head, skull.edge
    layers = [Layer(Tissue.SKIN, soften(head, skull.slant)), Layer(Tissue.FAT, soften(head + 1.8, edge))]
    if skull.low:
        layers += face.paint_soft_tissue(points, head, subject.seed, edge)
    layers.append(Layer(Tissue.MUSCLE, soften(np.maximum(union(points, (TEMPORALIS,)), head + 4), edge)))
    return layers


def _paint_vault(subject: Subject, skull: Skull) -> list[Layer]:
    slant, inner, table = skull.slant, skull.inner, skull.table
    marrow = np.abs(inner - table * np.float32(0.45)) - table * np.float32(0.5 * subject.diploe)
    return [
        Layer(Tissue.BONE, soften(skull.outer, slant)),
        Layer(Tissue.MARROW, soften(marrow, slant) * np.float32(0.8)),
        Layer(Tissue.DURA, soften(inner, slant)),
        Layer(Tissue.CSF, soften(inner + 0.7, slant)),
    ]


def _rotation(tilt: tuple[float, float, float]) -> Floats:
    (cx, cy, cz), (sx, sy, sz) = np.cos(tilt), np.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_x @ about_y @ about_z).astype(np.float32)


def _measure_blur(distance: Floats, spacing: float, thickness: float, edge: float) -> Floats:
    """Width in mm over which a surface is blurred in a thick slice: grows where the surface runs along the plane (partial volume)."""
    down, across = np.gradient(distance, spacing)
    along_plane = np.clip(down**2 + across**2, 0, 1)
    width: Floats = np.sqrt(edge**2 + thickness**2 * (1 - along_plane)).astype(np.float32)
    return width


def _brain(points: Floats, subject: Subject, inner: Floats, edge: float) -> list[Layer]:
    maps = load_atlas()
    cranium = np.flatnonzero(inner < edge)
    if not len(cranium):
        return []
    at = points.reshape(3, -1)[:, cranium]
    grey, white = maps.sample_tissue(at)
    tissue = np.clip((grey + white - np.float32(0.3 + 0.42 * subject.atrophy)) * np.float32(2.8) + np.float32(0.25), 0, 1)
    white_share = np.clip((white / np.maximum(grey + white, np.float32(0.05)) - np.float32(0.5)) * np.float32(1.5) + np.float32(0.5), 0, 1)
    within = soften(inner.ravel()[cranium] + 1, edge)
    chambers = soften(maps.ventricles.sample(at, FAR) - np.float32(subject.ventricles), edge * 1.3)

    def spread(values: Floats) -> Floats:
        full = np.zeros(inner.size, np.float32)
        full[cranium] = values
        return full.reshape(inner.shape)

    return [
        Layer(Tissue.GREY, spread(tissue * within)),
        Layer(Tissue.WHITE, spread(tissue * white_share * within)),
        Layer(Tissue.CSF, spread(chambers * within)),
        *_midline(points, subject, inner, edge),
    ]


def _midline(points: Floats, subject: Subject, inner: Floats, edge: float) -> list[Layer]:
    """Falx, sagittal sinus, arteries at the base, and the calcified pineal gland and choroid plexus."""
    within = soften(inner, edge)
    off_midline = np.abs(points[0])
    above_callosum = (1 - (points[1] + 15) ** 2 / 60**2 - (points[2] - 5) ** 2 / 33**2) * 20
    falx = np.maximum(off_midline - np.float32(0.6), above_callosum)
    sinus = off_midline * np.float32(0.9) - np.float32(5.0) - inner * np.float32(0.6)
    along_vault = (inner > -9) & (points[2] > -25) & ((points[1] < -20) | (points[2] > 40))
    layers = [
        Layer(Tissue.DURA, soften(falx, edge * 1.2) * within * np.float32(0.7)),
        Layer(Tissue.SINUS_BLOOD, soften(sinus, edge) * within * along_vault),
        Layer(Tissue.ARTERY, soften(union(points, ARTERIES), edge) * within),
    ]
    if subject.calcified:
        layers.append(Layer(Tissue.CALCIUM, soften(union(points, CALCIFIED), edge)))
    return layers
