"""A volume on the voxels of another, in millimetres of the patient; and whether two volumes of one head lie on each other."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import UserError
from pipeline.formats.volume import Volume

SHIFTS = (-12, -9, -6, -3, 0, 3, 6, 9, 12)  # mm by which a volume is moved to see whether it fits better there
COARSE = 3.0  # mm, voxels in which that is judged
BINS = 32


def resample(voxels: NDArray[np.floating], source: Volume, target: Volume, outside: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`voxels`, which lie on those of `source`, on the voxels of `target`, linearly; and where `source` reaches.

    Voxels that it does not reach get `outside`. A finer source is smoothed first, against aliasing.
    Raises UserError when one has no place in the patient, or none of the target's voxels is reached.
    """
    places = _places(source, target)
    inside = np.ones(target.voxels.shape, bool)
    for axis, side in enumerate(source.voxels.shape):
        inside &= (places[axis] > -0.5) & (places[axis] < side - 0.5)
    if not inside.any():
        raise UserError(f"{source.source} and {target.source} do not overlap in millimetres; register them first")
    if np.allclose(places, np.indices(target.voxels.shape), atol=1e-4) and source.voxels.shape == target.voxels.shape:
        return np.asarray(voxels, np.float32), inside
    steps = [max(np.abs(np.diff(places[axis], axis=each)).max(initial=0.0) for each in range(3)) for axis in range(3)]
    smooth = ndimage.gaussian_filter(np.float32(voxels), [max(0.0, (step - 1) / 2) for step in steps])
    result = ndimage.map_coordinates(smooth, places, order=1, mode="nearest")
    return np.where(inside, result, np.float32(outside)), inside


def _places(source: Volume, target: Volume) -> NDArray[np.float32]:
    """Where each voxel of `target` lies among the voxels of `source`: (3, I, J, K)."""
    for volume in (source, target):
        if volume.affine is None:
            raise UserError(f"{volume.source}: does not say where its voxels lie, so it cannot be laid on another volume")
    assert source.affine is not None
    assert target.affine is not None
    there = np.linalg.inv(source.affine) @ target.affine
    i, j, k = (np.arange(side, dtype=np.float64) for side in target.voxels.shape)
    if target.offsets is not None:
        k = np.array(target.offsets) / np.linalg.norm(target.affine[:3, 2])
    along = [there[:3, 0, None] * i, there[:3, 1, None] * j, there[:3, 2, None] * k]
    places = along[0][:, :, None, None] + along[1][:, None, :, None] + along[2][:, None, None, :] + there[:3, 3, None, None, None]
    if source.offsets is not None:
        planes = np.array(source.offsets) / np.linalg.norm(source.affine[:3, 2])
        places[2] = np.interp(places[2], planes, np.arange(len(planes)), left=-1, right=len(planes))
    return places.astype(np.float32)


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
