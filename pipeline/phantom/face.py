"""Analytic solids for the low slices: face, orbits, skull base, sinuses and ear, in MNI millimetres.

Positions follow the whole-head MNI152 average: eyes at (±32, 58, -38), petrous ridges from (±58, -26, -40) to (±14, -8, -38),
foramen magnum at (0, -42, -62). Air cells (mastoid, ethmoid) are a random field cut at a threshold.
"""

import numpy as np

from pipeline.phantom.shapes import Floats, Layer, both_sides, capsule, ellipsoid, shell, smooth_union, soft, waves
from pipeline.phantom.tissues import Tissue

TOP = 16.0  # mm; nothing here reaches higher


def surface(points: Floats) -> Floats:
    """Distance to the skin of face and neck."""
    side = both_sides(points)
    cheeks = ellipsoid(points, (0, 18, -68), (64, 61, 66))
    brow = ellipsoid(points, (0, 44, -18), (56, 40, 34))
    nose = capsule(points, (0, 78, -34), (0, 92, -66), 7.0, 14.0)
    neck = np.maximum(ellipsoid(points, (0, -36, -100), (66, 68, 400)), points[2] + 40)
    ear = ellipsoid(side, (77.0, -28.0, -42.0), (4.0, 14.0, 26.0))
    found = smooth_union(smooth_union(cheeks, brow, 10.0), nose, 12.0)
    return smooth_union(smooth_union(found, neck, 20.0), ear, 4.0)


def soft_tissue(points: Floats, head: Floats, g: np.random.Generator, edge: float) -> list[Layer]:
    """Muscle with fat between its bellies, under a coat of fat; chewing and neck muscles."""
    side = both_sides(points)
    streaks = waves(side, g, 22.0, 4)
    inside = soft(head + 8, edge * 2)
    bellies = soft(np.float32(-6) * (streaks + np.float32(0.55)), edge * 2)
    masseter = ellipsoid(side, (54.0, 22.0, -76.0), (9.0, 17.0, 30.0))
    pterygoid = ellipsoid(side, (30.0, 12.0, -72.0), (10.0, 15.0, 22.0))
    below_skull = (points[2] < -15).astype(np.float32)
    return [
        Layer(Tissue.MUSCLE, inside * bellies * below_skull),
        Layer(Tissue.MUSCLE, soft(np.minimum(masseter, pterygoid), edge) * soft(head + 2.5, edge)),
    ]


def skull_base(points: Floats, inner: Floats, petrous_air: float, g: np.random.Generator, edge: float) -> list[Layer]:
    """Bone of the face and skull base, painted under the brain, so that brain tissue keeps its place."""
    side = both_sides(points)
    petrous = capsule(side, (60.0, -27.0, -41.0), (13.0, -7.0, -38.0), 14.0, 5.5)
    mastoid = ellipsoid(side, (56.0, -34.0, -52.0), (13.0, 15.0, 24.0))
    clivus = capsule(points, (0, -4, -34), (0, -25, -62), 6.0, 5.0)
    sphenoid = ellipsoid(points, (0, 14, -38), (19, 17, 15))
    wing = capsule(side, (12.0, 17.0, -26.0), (48.0, 27.0, -20.0), 3.0, 4.0)
    lateral_orbit = capsule(side, (17.0, 22.0, -38.0), (50.0, 46.0, -38.0), 3.0, 5.5)
    lateral_orbit = np.minimum(lateral_orbit, capsule(side, (17.0, 22.0, -48.0), (50.0, 46.0, -50.0), 3.0, 5.5))
    roof = np.maximum(shell(ellipsoid(side, (27.0, 44.0, -38.0), (23.0, 30.0, 20.0)), 3.0), -30 - points[2])
    brow = capsule(side, (8.0, 71.0, -20.0), (46.0, 56.0, -22.0), 6.5)
    zygoma = np.minimum(
        capsule(side, (46.0, 50.0, -52.0), (52.0, 46.0, -58.0), 7.0, 6.0), capsule(side, (52.0, 46.0, -58.0), (66.0, -10.0, -54.0), 3.0, 3.0)
    )
    maxilla = np.minimum(
        shell(ellipsoid(side, (27.0, 46.0, -67.0), (14.0, 17.0, 17.0)), 2.0), ellipsoid(points, (0, 56, -96), (28, 24, 14))
    )
    nose = np.minimum(capsule(side, (5.0, 78.0, -36.0), (7.0, 84.0, -50.0), 1.8), capsule(side, (12.0, 68.0, -38.0), (12.0, 66.0, -62.0), 2.2))
    pterygoid = capsule(side, (14.0, 14.0, -50.0), (16.0, 12.0, -85.0), 2.8)
    jaw = np.minimum(capsule(side, (52.0, -8.0, -54.0), (49.0, 2.0, -110.0), 5.5), capsule(side, (52.0, -8.0, -54.0), (46.0, -8.0, -56.0), 5.0))
    condyle = ellipsoid(side, (17.0, -40.0, -66.0), (9.0, 14.0, 9.0))
    ring = np.maximum(
        shell(ellipsoid(points, (0, -46, -80), (17, 16, 60)), 9.0), np.maximum(points[2] + 70, -90 - points[2])
    )
    solid = petrous
    for part in (mastoid, clivus, sphenoid, wing, lateral_orbit, roof, brow, zygoma, maxilla, nose, pterygoid, jaw, condyle, ring):
        solid = np.minimum(solid, part)
    cells = waves(side, g, 8.0, 6)
    pneumatic = ellipsoid(side, (57.0, -33.0, -48.0), (11.0, 13.0, 20.0))
    air = soft(np.float32(-4) * (cells + np.float32(petrous_air)), edge) * soft(pneumatic + 2, edge)
    canal = capsule(side, (84.0, -24.0, -42.0), (50.0, -22.0, -41.0), 3.2)
    spongy = soft(np.minimum(np.minimum(clivus, condyle), jaw) + 2.2, edge) * np.float32(0.8)
    return [
        Layer(Tissue.BONE, soft(solid, edge)),
        Layer(Tissue.MARROW, spongy),
        Layer(Tissue.AIR, np.maximum(air, soft(canal, edge))),
        Layer(Tissue.AIR, soft(ellipsoid(points, (0, 18, -39), (14, 11, 10)), edge)),
    ]


def cavities(points: Floats, inner: Floats, sinus_fill: float, g: np.random.Generator, edge: float) -> list[Layer]:
    """Orbits with eyes, and the air of nose and sinuses with its mucosa; painted last, outside the cranium only."""
    side = both_sides(points)
    outside = 1 - soft(inner - 2.0, edge)
    orbit = np.minimum(
        ellipsoid(side, (32.0, 54.0, -38.0), (18.0, 17.0, 17.0)), capsule(side, (32.0, 50.0, -38.0), (15.0, 19.0, -34.0), 14.5, 3.5)
    )
    lateral, medial = capsule(side, (43.0, 56.0, -38.0), (17.0, 22.0, -35.0), 1.9), capsule(side, (20.0, 58.0, -38.0), (14.0, 22.0, -35.0), 1.9)
    upper = np.minimum(capsule(side, (32.0, 56.0, -25.0), (15.0, 20.0, -32.0), 2.0), capsule(side, (32.0, 56.0, -51.0), (15.0, 20.0, -38.0), 2.0))
    nerve = capsule(side, (31.0, 46.0, -38.0), (12.0, 16.0, -32.0), 2.2)
    eye = ellipsoid(side, (32.5, 58.5, -38.0), (12.3, 12.6, 12.0))
    lens = ellipsoid(side, (32.8, 67.0, -38.0), (4.6, 2.4, 4.4))
    ethmoid = ellipsoid(side, (7.0, 46.0, -38.0), (9.0, 23.0, 13.0))
    antrum = ellipsoid(side, (27.0, 46.0, -67.0), (13.0, 16.0, 16.0))
    frontal = np.maximum(ellipsoid(side, (10.0, 74.0, -12.0), (15.0, 6.0, 16.0)), -inner + 1.5)
    nasal = ellipsoid(side, (6.5, 50.0, -64.0), (10.0, 34.0, 22.0))
    pharynx = ellipsoid(points, (0, 2, -86), (12, 10, 26))
    walls = waves(points, g, 11.0, 5)
    folds = waves(side, g, 12.0, 4)
    cell_walls = soft(np.abs(walls) * 5 - 0.7, edge)
    fluid = waves(points, g, 55.0, 3) * np.float32(0.35) + np.float32(0.5) < sinus_fill
    mucosa_wall = soft(np.maximum(-(antrum + 2.5), antrum), edge)
    septum = soft(np.abs(points[0] - np.float32(g.normal(0, 1))) - 1.2, edge) * soft(nasal, edge)
    cells = soft(np.minimum(ethmoid, frontal), edge) * outside
    caves = soft(antrum, edge)
    flesh = np.maximum(soft(np.float32(4) * (folds - np.float32(0.35)), edge), 0) * soft(nasal, edge)
    return [
        Layer(Tissue.FAT, soft(orbit, edge) * outside),
        Layer(Tissue.MUSCLE, soft(np.minimum(np.minimum(lateral, medial), upper), edge) * outside),
        Layer(Tissue.NERVE, soft(nerve, edge) * outside),
        Layer(Tissue.SKIN, soft(eye, edge)),
        Layer(Tissue.VITREOUS, soft(eye + 1.2, edge)),
        Layer(Tissue.LENS, soft(lens, edge)),
        Layer(Tissue.AIR, cells),
        Layer(Tissue.BONE, cells * cell_walls * np.float32(0.55)),
        Layer(Tissue.AIR, caves),
        Layer(Tissue.AIR, np.maximum(soft(nasal, edge), soft(pharynx, edge))),
        Layer(Tissue.MUCOSA, np.maximum(flesh, septum)),
        Layer(Tissue.MUCOSA, mucosa_wall * np.float32(0.6)),
        Layer(Tissue.MUCOSA, (np.maximum(cells, caves) * fluid).astype(np.float32)),
    ]
