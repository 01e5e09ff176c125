"""Analytic solids for the low slices: face, orbits, skull base, sinuses and ear, in MNI millimetres.

Positions follow the whole-head MNI152 average: eyes at (±32, 58, -38), petrous ridges from (±60, -27, -41) to (±13, -7, -38),
foramen magnum at (0, -42, -62). Air cells (mastoid, ethmoid) are a random field cut at a threshold.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from pipeline.phantom.shapes import Ball, Floats, Layer, Rod, draw_waves, smooth_union, soften, union
from pipeline.phantom.tissues import Tissue

TOP = 12.0  # mm; nothing here reaches higher
BRAIN_ENDS = -66.0  # mm; below it there is only face and neck

CHEEKS = Ball((0, 18, -68), (66, 61, 66), mirrored=False)
BROW = Ball((0, 44, -18), (56, 40, 34), mirrored=False)
NOSE = Rod((0, 78, -34), (0, 92, -66), 7.0, 14.0, mirrored=False)
NECK = Ball((0, -36, -100), (66, 68, 400), high=-40.0, mirrored=False)
EAR = Ball((77, -28, -42), (4, 14, 26))

CHIN = Ball((0, 42, -104), (40, 40, 34), mirrored=False)

CHEWING_MUSCLES = (Ball((54, 22, -76), (9, 17, 30)), Ball((30, 12, -72), (10, 15, 22)))

SOLID_BONE = (
    Rod((60, -27, -41), (13, -7, -38), 14.0, 5.5),  # petrous ridge
    Ball((56, -34, -52), (13, 15, 24)),  # mastoid
    Ball((0, 15, -43), (19, 16, 12), mirrored=False),  # sphenoid body
    Rod((12, 17, -26), (48, 27, -20), 3.0, 4.0),  # sphenoid wing
    Rod((17, 22, -38), (50, 46, -38), 3.0, 5.5),  # lateral wall of the orbit
    Rod((17, 22, -48), (50, 46, -50), 3.0, 5.5),
    Ball((27, 44, -38), (23, 30, 20), wall=3.0, low=-30.0),  # roof of the orbit
    Rod((8, 71, -20), (46, 56, -22), 6.5, 6.5),  # brow
    Rod((46, 50, -52), (52, 46, -58), 7.0, 6.0),  # cheek bone
    Rod((52, 46, -58), (66, -10, -54), 3.0, 3.0),  # its arch
    Ball((27, 46, -67), (14, 17, 17), wall=2.0),  # walls of the maxillary sinus
    Ball((0, 46, -88), (20, 26, 2.5), mirrored=False),  # hard palate
    Rod((5, 78, -36), (7, 84, -50), 1.8, 1.8),  # nasal bone
    Rod((12, 68, -38), (12, 66, -62), 2.2, 2.2),
    Rod((14, 14, -50), (16, 12, -85), 2.8, 2.8),  # pterygoid
    Rod((52, -8, -54), (46, -8, -56), 5.0, 5.0),  # head of the mandible
    Ball((0, -46, -80), (17, 16, 60), wall=9.0, low=-88.0, high=-72.0, mirrored=False),  # first vertebra
    Ball((0, -44, -100), (13, 14, 60), wall=7.0, low=-112.0, high=-94.0, mirrored=False),  # second
    Rod((50, 2, -106), (18, 62, -118), 6.0, 6.0),  # body of the mandible
    Rod((18, 62, -118), (0, 68, -118), 6.0, 6.0),
)
SPONGY_BONE = (
    Rod((0, -5, -39), (0, -25, -62), 5.5, 5.0, mirrored=False),  # clivus
    Ball((17, -40, -66), (9, 14, 9)),  # occipital condyle
    Rod((52, -8, -54), (49, 2, -110), 5.5, 5.5),  # ramus of the mandible
    Rod((0, -24, -74), (0, -26, -130), 5.5, 8.0, mirrored=False),  # dens and body of the second vertebra
)
MASTOID_CELLS = (Ball((57, -33, -48), (9, 11, 18)),)
EAR_CANAL = (Rod((84, -24, -42), (50, -22, -41), 3.2, 3.2),)
SPHENOID_SINUS = (Ball((0, 17, -44), (14, 12, 9), mirrored=False),)

ORBIT = (Ball((32, 54, -38), (18, 17, 17)), Rod((32, 50, -38), (15, 19, -34), 14.5, 3.5))
EYE_MUSCLES = (
    Rod((43, 56, -38), (17, 22, -35), 1.9, 1.9),
    Rod((20, 58, -38), (14, 22, -35), 1.9, 1.9),
    Rod((32, 56, -25), (15, 20, -32), 2.0, 2.0),
    Rod((32, 56, -51), (15, 20, -38), 2.0, 2.0),
)
OPTIC_NERVE = (Rod((31, 46, -38), (12, 16, -32), 2.2, 2.2),)
EYE = (Ball((32.5, 58.5, -38), (12.3, 12.6, 12)),)
LENS = (Ball((32.8, 67, -38), (4.6, 2.4, 4.4)),)
ETHMOID = (Ball((7, 46, -38), (9, 23, 13)),)
FRONTAL_SINUS = (Ball((10, 74, -12), (15, 6, 16)),)
MAXILLARY_SINUS = (Ball((27, 46, -67), (13, 16, 16)),)
NASAL_CAVITY = (Ball((6.5, 50, -64), (10, 34, 22)),)
PHARYNX = (Ball((0, 2, -86), (12, 10, 26), mirrored=False), Rod((0, 2, -100), (0, -2, -140), 7.0, 8.0, mirrored=False))
MOUTH = (Ball((0, 44, -101), (20, 24, 3), mirrored=False),)
TONGUE = (Ball((0, 34, -112), (20, 28, 16), mirrored=False),)
NECK_MUSCLES = (
    Rod((14, -70, -70), (16, -78, -140), 11.0, 13.0),  # behind the spine
    Rod((34, -58, -66), (34, -62, -140), 9.0, 11.0),
    Rod((58, -34, -66), (46, -8, -140), 8.0, 9.0),  # sternocleidomastoid
)
SPINAL_CANAL = (Rod((0, -43, -58), (0, -45, -140), 9.5, 8.5, mirrored=False),)
SPINAL_CORD = (Rod((0, -43, -58), (0, -45, -140), 5.5, 5.0, mirrored=False),)
ARCH = tuple((float(24 * np.sin(turn)), float(44 + 27 * np.cos(turn))) for turn in np.linspace(0.12, 1.75, 8))  # x and y of the teeth
TEETH = tuple(Rod((x, y, -96), (x, y, -116), 3.0, 2.6) for x, y in ARCH)
SOCKETS = tuple(Rod((*a, z), (*b, z), 4.5, 4.5) for a, b in pairwise(ARCH) for z in (-93.0, -119.0))
BITE = -106.0  # mm; height at which upper and lower teeth meet


def measure_skin(points: Floats) -> Floats:
    """Distance to the skin of face and neck."""
    skin = smooth_union(smooth_union(CHEEKS.distance(points), BROW.distance(points), 10.0), NOSE.distance(points), 12.0)
    skin = smooth_union(skin, CHIN.distance(points), 14.0)
    return smooth_union(smooth_union(skin, NECK.distance(points), 20.0), union(points, (EAR,)), 4.0)


def paint_soft_tissue(points: Floats, head: Floats, seed: int, edge: float) -> list[Layer]:
    """Muscle with fat between its bellies, under a coat of fat; muscles of chewing and of the neck."""
    g = np.random.default_rng([seed, 11])
    lean = np.float32(g.uniform(0.4, 0.9))
    deep = np.flatnonzero((head < -8) & (points[2] < -15))
    if not len(deep):
        return []
    at = points.reshape(3, -1)[:, deep]
    at[0] = np.abs(at[0])
    bellies = np.zeros(head.size, np.float32)
    bellies[deep] = soften(np.float32(-6) * (draw_waves(at, g, 22.0, 4) + lean), edge * 2)
    return [
        Layer(Tissue.MUSCLE, bellies.reshape(head.shape)),
        Layer(Tissue.FAT, soften(union(points, NECK_MUSCLES) - 0.8, edge) * soften(head + 4, edge)),
        Layer(Tissue.MUSCLE, soften(union(points, NECK_MUSCLES), edge) * soften(head + 4, edge)),
        Layer(Tissue.MUSCLE, soften(union(points, CHEWING_MUSCLES), edge) * soften(head + 2.5, edge)),
    ]


def paint_jaw(points: Floats, dental: float, seed: int, edge: float) -> list[Layer]:
    """Tongue, mouth, teeth, and the spinal cord in its canal; a share `dental` of the teeth has crowns of metal."""
    if points[2].min() > -54:
        return []
    g = np.random.default_rng([seed, 12])
    layers = [
        Layer(Tissue.CSF, soften(union(points, SPINAL_CANAL), edge)),
        Layer(Tissue.WHITE, soften(union(points, SPINAL_CORD), edge)),
        Layer(Tissue.MUSCLE, soften(union(points, TONGUE), edge)),
        Layer(Tissue.BONE, soften(union(points, SOCKETS), edge)),
        Layer(Tissue.AIR, soften(union(points, MOUTH), edge) * np.float32(g.uniform(0, 1))),
        Layer(Tissue.TOOTH, soften(union(points, TEETH), edge) * (np.abs(points[2] - np.float32(BITE)) > 0.7)),
    ]
    sides = tuple(side for tooth in TEETH for side in (tooth, tooth.mirror()))
    crowns = tuple(replace(side, mirrored=False) for side in sides if g.random() < dental)
    if crowns:
        near = soften(np.abs(points[2] - np.float32(BITE)) - 5, edge)
        layers += [
            Layer(Tissue.VOID, soften(union(points, crowns) - 4, edge * 2) * near),
            Layer(Tissue.METAL, soften(union(points, crowns) + 0.5, edge) * near),
        ]
    return [layer for layer in layers if layer.opacity.any()]


def paint_skull_base(points: Floats, petrous_air: float, seed: int, edge: float) -> list[Layer]:
    """Bone of the face and skull base, painted under the brain, so that brain tissue keeps its place."""
    spongy = union(points, SPONGY_BONE)
    layers = [
        Layer(Tissue.BONE, soften(np.minimum(union(points, SOLID_BONE), spongy), edge)),
        Layer(Tissue.MARROW, soften(spongy + 2.2, edge) * np.float32(0.8)),
    ]
    pneumatic = soften(union(points, MASTOID_CELLS), edge)
    if pneumatic.any():
        cells = draw_waves(_fold(points), np.random.default_rng([seed, 13]), 8.0, 5)
        pneumatic *= soften(np.float32(-4) * (cells + np.float32(petrous_air)), edge)
    hollow = soften(np.minimum(union(points, EAR_CANAL), union(points, SPHENOID_SINUS)), edge)
    return [*layers, Layer(Tissue.AIR, np.maximum(pneumatic, hollow))]


def paint_cavities(points: Floats, inner: Floats, sinus_fill: float, seed: int, edge: float) -> list[Layer]:
    """Orbits with eyes, and the air of nose and sinuses with its mucosa; painted last, outside the cranium only."""
    outside = soften(np.float32(2) - inner, edge)
    eye, nose, antrum = union(points, EYE), union(points, NASAL_CAVITY), union(points, MAXILLARY_SINUS)
    frontal = np.maximum(union(points, FRONTAL_SINUS), np.float32(1.5) - inner)
    cells = soften(np.minimum(union(points, ETHMOID), frontal), edge) * outside
    caves, airway = soften(antrum, edge), soften(nose, edge)
    layers = [
        Layer(Tissue.FAT, soften(union(points, ORBIT), edge) * outside),
        Layer(Tissue.MUSCLE, soften(union(points, EYE_MUSCLES), edge) * outside),
        Layer(Tissue.NERVE, soften(union(points, OPTIC_NERVE), edge) * outside),
        Layer(Tissue.SKIN, soften(eye, edge)),
        Layer(Tissue.VITREOUS, soften(eye + 1.2, edge)),
        Layer(Tissue.LENS, soften(union(points, LENS), edge)),
    ]
    # A generator for each, so that neighbouring slices agree whatever they show.
    septum = float(np.random.default_rng([seed, 14]).normal(0, 1))
    fluid = (draw_waves(points, np.random.default_rng([seed, 15]), 55.0, 3) * np.float32(0.35) + np.float32(0.5) < sinus_fill).astype(
        np.float32
    )
    if cells.any():
        walls = draw_waves(points, np.random.default_rng([seed, 16]), 11.0, 4)
        layers += [
            Layer(Tissue.AIR, cells),
            Layer(Tissue.BONE, cells * soften(np.abs(walls) * np.float32(5) - np.float32(0.7), edge) * np.float32(0.55)),
        ]
    layers += [Layer(Tissue.AIR, caves), Layer(Tissue.AIR, np.maximum(airway, soften(union(points, PHARYNX), edge)))]
    if airway.any():
        folds = soften(np.float32(4) * (draw_waves(_fold(points), np.random.default_rng([seed, 17]), 12.0, 4) - np.float32(0.35)), edge)
        layers.append(Layer(Tissue.MUCOSA, np.maximum(folds, soften(np.abs(points[0] - np.float32(septum)) - 1.2, edge)) * airway))
    lining = soften(np.maximum(-(antrum + np.float32(2.5)), antrum), edge) * np.float32(0.6)
    layers += [Layer(Tissue.MUCOSA, lining), Layer(Tissue.MUCOSA, np.maximum(cells, caves) * fluid)]
    return [layer for layer in layers if layer.opacity.any()]


def _fold(points: Floats) -> Floats:
    """The points with x made positive: a random field in them is the same on both sides."""
    return np.stack([np.abs(points[0]), points[1], points[2]])
