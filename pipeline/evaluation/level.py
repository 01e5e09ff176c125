"""How high in the head a slice lies, judged by its CT picture (H, W) in 0..1, since single slices bear no position."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evaluation.tissues import AIR, BONE

Level = Literal["low", "middle", "top"]
LEVELS: tuple[Level, ...] = ("low", "middle", "top")

HEAD = 0.1  # brighter pixels belong to the head
DEEP = 0.3  # of the greatest depth below the outline; what lies deeper is no skull vault but where it is cut near the vertex
BASE = 0.05  # share of the deep pixels that are bone or air, from which a slice shows the skull base
VAULT = 0.2  # share of the outline's pixels that are bone, from which the skull is cut aslant, near the vertex
FILLED = 0.58  # share of the frame inside the outline: near the vertex heads are round, at the base a face juts out


def level_of(ct: NDArray[np.float32]) -> Level:
    """`low` (skull base, eyes and face), `middle` or `top` (near the vertex)."""
    outline = np.asarray(ndimage.binary_fill_holes(ct > HEAD))
    if not outline.any():
        return "middle"
    depth = ndimage.distance_transform_edt(outline)
    deep = ct[depth > DEEP * depth.max()]
    odd = float(((deep >= BONE) | (deep < AIR)).mean())
    bone = float((ct[outline] >= BONE).mean())
    if odd > BASE and not (bone > VAULT and outline.mean() > FILLED):
        return "low"
    return "top" if bone > VAULT else "middle"
