"""Is each kind of matter where it belongs? Overlap of bone, air and fluid on CT pictures (H, W) in 0..1 of a brain window.

The limits are those of the default window (level 40, width 80 HU): bone saturates it, water and CSF (0 to 15 HU) lie just above black. Air
and fat are both black in such a window and cannot be told apart, so `air` is whatever is black inside the outline of the head.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

BONE = 0.85  # 68 HU and more: above brain; fresh blood reaches it, but a smooth translation of thin bone must too
FLUID = (0.03, 0.22)  # 2 to 18 HU
AIR = 0.03  # 2 HU and less: air, and fat too


def dice(made: Mask, wanted: Mask) -> float:
    """2 |made ∩ wanted| / (|made| + |wanted|) (Dice, Ecology 26(3), 1945); NaN where neither has a pixel."""
    both = int(made.sum()) + int(wanted.sum())
    return 2 * int((made & wanted).sum()) / both if both else float("nan")


def tissue_dice(made: Image, truth: Image, head: Mask) -> dict[str, float]:
    """Dice of skull, air and fluid of a CT translation inside the outline of `head`; NaN for what neither picture shows."""
    outline = np.asarray(ndimage.binary_fill_holes(head))
    return {f"{name}_dice": dice(one & outline, other & outline) for name, one, other in _tissues(made, truth)}


def _tissues(made: Image, truth: Image) -> list[tuple[str, Mask, Mask]]:
    return [
        ("skull", made >= BONE, truth >= BONE),
        ("air", made < AIR, truth < AIR),
        ("fluid", (made >= FLUID[0]) & (made <= FLUID[1]), (truth >= FLUID[0]) & (truth <= FLUID[1])),
    ]
