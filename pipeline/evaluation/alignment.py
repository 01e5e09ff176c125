"""Do two volumes of one head lie on each other?"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHIFTS = (-12, -9, -6, -3, 0, 3, 6, 9, 12)  # mm by which a volume is moved to see whether it fits better there
COARSE = 3.0  # mm, voxels in which that is judged
BINS = 32


def estimate_shift(mr: NDArray[np.floating], ct: NDArray[np.floating], mask: NDArray[np.bool_], voxel_size: tuple[float, ...]) -> float:
    """By how many mm along one of its axes the MR would fit the CT better than where it lies, in steps of COARSE; 0 where it fits best.

    Fit is mutual information (Maes et al., IEEE Transactions on Medical Imaging 16(2), 1997) over `mask`, all on the same voxels.
    """
    zoom = [size / COARSE for size in voxel_size]
    one, other = (ndimage.zoom(ndimage.gaussian_filter(np.float32(each), [0.5 / z for z in zoom]), zoom, order=1) for each in (mr, ct))
    inside = ndimage.binary_dilation(ndimage.zoom(mask.astype(np.uint8), zoom, order=0) > 0, iterations=2)
    fits = [(_mutual_information(np.roll(one, round(shift / COARSE), axis), other, inside), shift) for axis in range(3) for shift in SHIFTS]
    return float(abs(max(fits)[1]))


def _mutual_information(one: NDArray[np.float32], other: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    joint = np.histogram2d(_clip(one[inside]), _clip(other[inside]), bins=BINS)[0] / inside.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / product[some])).sum())


def _clip(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, *np.percentile(values, [0.5, 99.5]))
