"""What a synthetic CT must beat: bulk densities assigned to an MR volume, without network or truth."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

Volume = NDArray[np.floating]
Mask = NDArray[np.bool_]

AIR, WATER, BONE = -1000.0, 0.0, 800.0  # HU
HEAD = -400.0  # HU of a CT, between air and fat: higher voxels belong to the head
LABELS = {"all_water": "All water", "water_and_bone": "Water, and bone where MR is dark"}
HEAD_SHARE = 0.4  # of Otsu's threshold between air and tissue; brighter MR voxels belong to the head


def largest_piece(matter: Mask) -> Mask:
    """The largest piece of `matter` (I, J, K), nostrils and ears closed, with what it encloses in planes of the first two axes."""
    labels, count = ndimage.label(matter)
    if not count:
        return np.zeros(matter.shape, bool)
    piece = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    piece = ndimage.binary_closing(np.pad(piece, 3), iterations=3)[3:-3, 3:-3, 3:-3]
    return np.stack([ndimage.binary_fill_holes(piece[:, :, k]) for k in range(piece.shape[2])], axis=2)


def head_in_mr(mr: Volume) -> tuple[Mask, float]:
    """The head in an MR volume, and the intensity below which it is dark (bone or air). An empty mask for a flat volume."""
    smooth = ndimage.gaussian_filter(np.float32(mr), 1.0)
    smooth = np.minimum(smooth, np.percentile(smooth, 99.5))
    if np.ptp(smooth) == 0:
        return np.zeros(mr.shape, bool), 0.0
    dark = HEAD_SHARE * float(threshold_otsu(smooth) - smooth.min()) + float(smooth.min())
    return largest_piece(smooth > dark), dark


def all_water(mr: Volume) -> Volume:
    """CT in HU: water inside the head, air around it."""
    head, _ = head_in_mr(mr)
    return np.where(head, WATER, AIR).astype(np.float32)


def water_and_bone(mr: Volume) -> Volume:
    """CT in HU: bone where the head is dark in MR, water elsewhere in it, air around it. Sinuses, as dark as bone, become bone."""
    head, dark = head_in_mr(mr)
    return np.where(head, np.where(mr > dark, WATER, BONE), AIR).astype(np.float32)


BULK_DENSITIES = {"all_water": all_water, "water_and_bone": water_and_bone}
