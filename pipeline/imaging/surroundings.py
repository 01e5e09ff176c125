"""Air around a synthetic head: what a network writes there is noise of its own, not a measurement."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AIR = -1000.0  # HU
SURFACE = -400.0  # HU; halfway between air and skin
SMALLEST = 0.02  # of the largest piece: smaller ones float beside the head


def clear_surroundings(hounsfield: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slices (N, H, W) of a synthetic CT in HU with AIR wherever no head is: around it, and where small pieces float beside it.

    Air that a plane encloses (sinuses, mastoid cells) stays as it is.
    """
    pieces, count = ndimage.label(np.rint(hounsfield) > SURFACE)  # as files will hold them
    if not count:
        return np.full_like(hounsfield, AIR)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    head = (sizes >= SMALLEST * sizes.max())[pieces]
    for plane in head:
        plane[:] = ndimage.binary_fill_holes(plane)
    return np.where(head, hounsfield, np.float32(AIR))
