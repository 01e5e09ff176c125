"""What surgeons leave behind: burr holes and bone flaps, sunken or missing bone, plates, clips, air and fluid under the flap."""

from dataclasses import dataclass

import numpy as np

from pipeline.phantom.shapes import Ball, Floats, Layer, draw_waves, soften, union
from pipeline.phantom.tissues import Tissue

CENTRE = (0.0, -16.0, 10.0)  # MNI mm; openings look at this point
VOID = 7.0  # mm around metal that MR does not show


@dataclass(frozen=True)
class Surgery:
    """One opening of the skull; lengths in mm. Drawn by `draw`."""

    direction: tuple[float, float, float]  # unit vector from CENTRE through the middle of the opening
    radius: float
    gap: float  # width of the cut around the flap
    missing: bool  # no flap was put back
    sunken: float  # how deep the flap lies
    swelling: float  # thickness added to the scalp over it
    fluid: float  # depth of the fluid under it
    air: float  # depth of the air under the highest part of the skull, face up
    plates: int
    clip: tuple[float, float, float] | None  # place of an aneurysm clip or coil, MNI mm


def draw(g: np.random.Generator) -> Surgery:
    """An opening somewhere in the vault, from burr hole to large flap, fresh or old."""
    side, fresh = (1.0 if g.random() < 0.5 else -1.0), bool(g.random() < 0.6)
    direction = np.array([side * g.uniform(0.15, 1), g.uniform(-1, 1), g.uniform(0.05, 0.9)])
    direction /= np.linalg.norm(direction)
    burr = bool(g.random() < 0.25)
    clip = (side * g.uniform(0, 32), g.uniform(-8, 8), g.uniform(-22, -8)) if g.random() < 0.2 else None
    return Surgery(
        direction=(float(direction[0]), float(direction[1]), float(direction[2])),
        radius=float(g.uniform(4, 8) if burr else g.uniform(18, 48)),
        gap=float(g.uniform(1.0, 4.0)),
        missing=burr or bool(g.random() < 0.2),
        sunken=float(max(0.0, g.normal(0.5, 1.0))),
        swelling=float(g.uniform(0, 7) if fresh else 0.0),
        fluid=float(g.uniform(0, 6) if fresh else g.uniform(0, 2)),
        air=float(g.uniform(2, 16) if fresh and g.random() < 0.7 else 0.0),
        plates=0 if burr else int(g.integers(0, 5)),
        clip=None if clip is None else (float(clip[0]), float(clip[1]), float(clip[2])),
    )


def measure(points: Floats, surgery: Surgery) -> Floats:
    """Distance in mm from the edge of the opening, across its axis, at `points` (3, H, W); negative over the opening."""
    away = points - np.asarray(CENTRE, np.float32)[:, None, None]
    axis = np.asarray(surgery.direction, np.float32)
    along = away[0] * axis[0] + away[1] * axis[1] + away[2] * axis[2]
    across = np.sqrt(np.maximum((away**2).sum(0) - along * along, 0))
    distance: Floats = np.where(along > 0, across, np.float32(99)) - np.float32(surgery.radius)
    return distance


def paint_opening(surgery: Surgery, rim: Floats, inner: Floats, outer: Floats, edge: float) -> list[Layer]:
    """Layers over the vault: the cut, or the whole opening, filled with scar and muscle; fluid between flap and brain."""
    skull = soften(outer, edge) * soften(-inner, edge)
    opening = soften(rim, edge) if surgery.missing else soften(np.abs(rim) - np.float32(surgery.gap / 2), edge)
    layers = [Layer(Tissue.MUSCLE, opening * skull)]
    if surgery.sunken and not surgery.missing:
        step = soften(rim + np.float32(surgery.gap), edge)
        layers.append(Layer(Tissue.MUSCLE, step * soften(outer, edge) * soften(-outer - np.float32(surgery.sunken), edge)))
        layers.append(Layer(Tissue.BONE, step * soften(inner, edge) * soften(-inner - np.float32(surgery.sunken), edge)))
    return layers


def paint_contents(points: Floats, surgery: Surgery, rim: Floats, inner: Floats, outer: Floats, edge: float) -> list[Layer]:
    """Layers over the brain: fluid and air under the flap, plates on it, a clip at the base."""
    layers = []
    if surgery.fluid:
        bed = np.maximum(rim - 4, np.maximum(inner, -inner - np.float32(surgery.fluid)))
        layers.append(Layer(Tissue.CAVITY, soften(bed, edge)))
    if surgery.air:
        # Face up, air gathers at the front; its lower border is level.
        level = np.float32(points[1][inner < 0].max(initial=-99) - surgery.air)
        g = np.random.default_rng(round(surgery.air * 1e6))
        pocket = np.maximum(np.maximum(level - points[1], inner), -inner - np.float32(2 + surgery.air / 2))
        layers.append(Layer(Tissue.AIR, soften(pocket + draw_waves(points, g, 30.0, 3), edge)))
    if surgery.plates:
        plates = _place_plates(points, surgery, rim, edge)
        void = soften(np.abs(outer) - np.float32(VOID / 2), edge) * (plates > 0)
        layers += [Layer(Tissue.VOID, void), Layer(Tissue.METAL, plates * soften(np.abs(outer) - np.float32(0.8), edge))]
    if surgery.clip is not None:
        halo, clip = (union(points, (Ball(surgery.clip, (radius,) * 3, mirrored=False),)) for radius in (VOID, 2.5))
        layers += [Layer(Tissue.VOID, soften(halo, edge * 3)), Layer(Tissue.METAL, soften(clip, edge))]
    return layers


def _place_plates(points: Floats, surgery: Surgery, rim: Floats, edge: float) -> Floats:
    """Opacity of the sectors in which plates bridge the cut, seen along the opening's axis."""
    axis = np.asarray(surgery.direction, np.float32)
    across = np.cross(axis, [0, 0, 1] if abs(axis[2]) < 0.9 else [1, 0, 0]).astype(np.float32)
    across /= np.linalg.norm(across)
    other = np.cross(axis, across)
    away = points - np.asarray(CENTRE, np.float32)[:, None, None]
    bearing = np.arctan2((away * other[:, None, None]).sum(0), (away * across[:, None, None]).sum(0))
    sector = np.float32(2 * np.pi / surgery.plates)
    aside = np.abs((bearing + sector / 2) % sector - sector / 2) * np.float32(surgery.radius)
    return soften(np.maximum(aside - 3, np.abs(rim) - 6).astype(np.float32), edge)
