"""What a CT picture (H, W) in 0..1 of a brain window shows: bone, air and fluid, and how high in the head the slice lies.

The limits are those of the default window (level 40, width 80 HU): bone saturates it, water and CSF (0 to 15 HU) lie just above black. Air
and fat are both black in such a window and cannot be told apart, so `air` is whatever is black inside the outline of the head.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import HEAD_BRIGHTNESS

Level = Literal["low", "middle", "top"]
LEVELS: tuple[Level, ...] = ("low", "middle", "top")

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

BONE = 0.85  # 68 HU and more: above brain; fresh blood reaches it, but a smooth translation of thin bone must too
FLUID = (0.03, 0.22)  # 2 to 18 HU
AIR = 0.03  # 2 HU and less: air, and fat too
DEEP = 0.3  # of the greatest depth below the outline; what lies deeper is no skull vault but where it is cut near the vertex
BASE = 0.05  # share of the deep pixels that are bone or air, from which a slice shows the skull base
VAULT = 0.2  # share of the outline's pixels that are bone, from which the skull is cut aslant, near the vertex
FILLED = 0.58  # share of the frame inside the outline: near the vertex heads are round, at the base a face juts out


def dice(prediction: Mask, truth: Mask) -> float:
    """2 |prediction ∩ truth| / (|prediction| + |truth|) (Dice, Ecology 26(3), 1945); NaN where neither has a pixel."""
    both = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / both if both else float("nan")


def tissue_dice(prediction: Image, truth: Image, head: Mask) -> dict[str, float]:
    """Dice of skull, air and fluid of a CT translation inside the outline of `head`; NaN for what neither picture shows."""
    outline = np.asarray(ndimage.binary_fill_holes(head))
    predicted, true = _tissues(prediction), _tissues(truth)
    return {f"{name}_dice": dice(predicted[name] & outline, true[name] & outline) for name in true}


def _tissues(ct: Image) -> dict[str, Mask]:
    return {"skull": ct >= BONE, "air": ct < AIR, "fluid": (ct >= FLUID[0]) & (ct <= FLUID[1])}


def level_of(ct: NDArray[np.float32]) -> Level:
    """By looks, as pictures bear no position: `low` (skull base, eyes and face), `middle` or `top` (near the vertex)."""
    outline = np.asarray(ndimage.binary_fill_holes(ct > HEAD_BRIGHTNESS))
    if not outline.any():
        return "middle"
    depth = ndimage.distance_transform_edt(outline)
    deep = ct[depth > DEEP * depth.max()]
    odd = float(((deep >= BONE) | (deep < AIR)).mean())
    bone = float((ct[outline] >= BONE).mean())
    if odd > BASE and not (bone > VAULT and outline.mean() > FILLED):
        return "low"
    return "top" if bone > VAULT else "middle"
