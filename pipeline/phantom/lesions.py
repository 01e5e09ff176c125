"""Lesions now and then: bleed, infarct, tumour with oedema, enhancing ring, resection hole, white matter spots, blood under the dura."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.phantom.shapes import Floats, Layer, draw_waves, soften
from pipeline.phantom.tissues import Tissue

Kind = Literal["bleed", "old_bleed", "infarct", "tumour", "ring", "hole", "spots", "subdural"]
KINDS: tuple[Kind, ...] = ("bleed", "old_bleed", "infarct", "tumour", "ring", "hole", "spots", "subdural")


@dataclass(frozen=True)
class Lesion:
    """One lesion: kind, centre (MNI mm), radius and width of the oedema around it (mm), and the seed of its outline."""

    kind: Kind
    centre: tuple[float, float, float]
    radius: float
    oedema: float
    seed: int


def draw(g: np.random.Generator, kind: Kind | None = None) -> Lesion:
    """A lesion somewhere in the cerebrum, or now and then the cerebellum."""
    kind = kind or KINDS[g.integers(len(KINDS))]
    side = 1 if g.random() < 0.5 else -1
    if g.random() < 0.12:
        centre = (side * g.uniform(8, 35), g.uniform(-80, -50), g.uniform(-45, -28))
    else:
        centre = (side * g.uniform(18, 50), g.uniform(-75, 48), g.uniform(-12, 55))
    radius = {
        "bleed": (7, 22),
        "old_bleed": (6, 18),
        "infarct": (12, 38),
        "tumour": (8, 24),
        "ring": (8, 22),
        "hole": (9, 24),
        "spots": (45, 45),
        "subdural": (5, 18),
    }[kind]
    oedema = g.uniform(4, 22) if kind in ("tumour", "ring") else g.uniform(2, 6) if kind == "bleed" else 0.0
    return Lesion(
        kind, (float(centre[0]), float(centre[1]), float(centre[2])), float(g.uniform(*radius)), float(oedema), int(g.integers(2**31))
    )


def push(points: Floats, lesion: Lesion) -> Floats:
    """Mass effect: tissue displaced away from a bleed, tumour or ring, so points near it read the atlas nearer its centre."""
    if lesion.kind == "subdural":
        return _push_aside(points, lesion)
    if lesion.kind not in ("bleed", "tumour", "ring"):
        return points
    away = points - np.asarray(lesion.centre, np.float32)[:, None, None]
    distance = np.sqrt((away**2).sum(0))
    reach = lesion.radius + lesion.oedema + 12
    amount = np.float32(0.28 * lesion.radius) * np.exp(-((distance / reach) ** 2)) * np.minimum(distance / np.float32(lesion.radius), 1)
    pushed: Floats = points - away / np.maximum(distance, 1e-3) * amount
    return pushed.astype(np.float32)


def _push_aside(points: Floats, lesion: Lesion) -> Floats:
    """Midline shift: the brain gives way to a collection on one side, most at the midline's height, nothing at the skull."""
    side = np.float32(np.sign(lesion.centre[0]))
    depth = np.clip(1 - (np.abs(points[0]) / 66) ** 2, 0, 1) * np.clip(1 - (points[1] + 16) ** 2 / 90**2, 0, 1)
    pushed = points.copy()
    pushed[0] += side * np.float32(0.5 * lesion.radius) * depth * np.exp(-(((points[2] - np.float32(lesion.centre[2])) / 45) ** 2))
    return pushed


def _paint_subdural(points: Floats, lesion: Lesion, inner: Floats, edge: float, g: np.random.Generator) -> tuple[list[Layer], Floats]:
    """A crescent under the skull on the lesion's side, `radius` mm thick at most, thinning out around its centre."""
    away = points - np.asarray(lesion.centre, np.float32)[:, None, None]
    reach = np.float32(g.uniform(45, 75))
    thick = np.float32(lesion.radius) * (1 - (away[1] ** 2 + away[2] ** 2) / reach**2)
    crescent = np.maximum(np.maximum(-inner - np.maximum(thick, 0), inner + np.float32(1)), 3 - points[0] * np.sign(lesion.centre[0]))
    opacity = soften(crescent.astype(np.float32), edge * 1.3)
    blood = (Tissue.FRESH_BLOOD, Tissue.OLD_BLOOD, Tissue.CAVITY)[g.integers(3)]
    return [Layer(blood, opacity)], opacity


def paint(points: Floats, lesion: Lesion, inner: Floats, edge: float) -> tuple[list[Layer], Floats]:
    """Layers of the lesion within the cranium (distance `inner` below 0), and its own opacity (H, W) in 0..1."""
    g = np.random.default_rng(lesion.seed)
    inside = soften(inner + np.float32(1.5), edge)
    if lesion.kind == "subdural":
        return _paint_subdural(points, lesion, inner, edge, g)
    away = points - np.asarray(lesion.centre, np.float32)[:, None, None]
    stretch = g.uniform(0.75, 1.3, 3).astype(np.float32)
    distance = np.sqrt(((away * stretch[:, None, None]) ** 2).sum(0))
    if distance.min() > lesion.radius + lesion.oedema + 6:
        return [], np.zeros(distance.shape, np.float32)
    ragged = distance * (1 + np.float32(0.16) * draw_waves(points, g, 22.0)) - np.float32(lesion.radius)
    core = soften(ragged, edge * 1.5) * inside
    ragged_oedema = ragged - np.float32(lesion.oedema) * (1 + np.float32(0.5) * draw_waves(points, g, 18.0))
    fingers = soften(ragged_oedema, edge * 5) * inside * np.float32(0.85)
    if lesion.kind == "bleed":
        return [Layer(Tissue.OEDEMA, fingers), Layer(Tissue.FRESH_BLOOD, core)], np.maximum(core, fingers)
    if lesion.kind == "old_bleed":
        return [Layer(Tissue.OLD_BLOOD, core)], core
    if lesion.kind == "infarct":
        wedge = soften(ragged, edge * 4) * inside * np.float32(g.uniform(0.55, 1.0))
        return [Layer(Tissue.INFARCT if g.random() < 0.6 else Tissue.SCAR, wedge)], wedge
    if lesion.kind == "tumour":
        return [Layer(Tissue.OEDEMA, fingers), Layer(Tissue.TUMOUR, core)], np.maximum(core, fingers)
    if lesion.kind == "ring":
        middle = soften(ragged + np.float32(g.uniform(2.5, 5.0)), edge * 1.5) * inside
        return [Layer(Tissue.OEDEMA, fingers), Layer(Tissue.RIM, core), Layer(Tissue.NECROSIS, middle)], np.maximum(core, fingers)
    if lesion.kind == "hole":
        gliosis = soften(ragged - 4, edge * 3) * inside * np.float32(0.6)
        return [Layer(Tissue.OEDEMA, gliosis), Layer(Tissue.CAVITY, core)], np.maximum(core, gliosis)
    spots = (
        soften(np.float32(-5) * (draw_waves(points, g, 16.0, 6) - np.float32(1.35)), edge * 2)
        * soften(distance - 45, 10.0)
        * inside
        * np.float32(0.8)
    )
    return [Layer(Tissue.OEDEMA, spots)], spots
