"""A volume on the grid of another: the same places in the patient, in millimetres."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.formats.volume import Volume

SAME = 1e-3  # millimetres: grids whose voxels lie nearer are one grid


def same_grid(one: Volume, other: Volume) -> bool:
    """Whether both have as many voxels in the same places; True where a place is unknown and the shapes are equal."""
    if one.voxels.shape != other.voxels.shape or one.offsets != other.offsets:
        return False
    if one.affine is None or other.affine is None:
        return True
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float) * [*one.voxels.shape, 1]
    return bool(np.abs((one.affine - other.affine) @ corners.T).max() < SAME)


def onto_grid(volume: Volume, target: Volume) -> tuple[Volume, NDArray[np.bool_]]:
    """`volume` resampled linearly onto the voxels of `target`, and which of these lie inside of it (I, J, K).

    Where `volume` is coarser or finer than the target nothing is filtered: truth keeps the values that the file has. Outside, the
    lowest value (air). Raises ValueError where the place of either is unknown.
    """
    if volume.affine is None or target.affine is None:
        raise ValueError("no place in the patient is known")
    shape = target.voxels.shape
    grid = np.indices(shape, dtype=np.float32).reshape(3, -1)
    if target.offsets is not None:  # planes unevenly spaced along the third axis
        step = np.linalg.norm(target.affine[:3, 2])
        grid[2] = np.asarray(target.offsets, np.float32)[grid[2].astype(int)] / step
    places = target.affine[:3, :3] @ grid + target.affine[:3, 3:]
    found = np.linalg.inv(volume.affine)[:3] @ np.vstack([places, np.ones((1, places.shape[1]))])
    if volume.offsets is not None:
        step = np.linalg.norm(volume.affine[:3, 2])
        found[2] = np.interp(found[2] * step, volume.offsets, np.arange(len(volume.offsets)), left=-1, right=len(volume.offsets))
    last = np.array(volume.voxels.shape)[:, None] - 1
    inside = np.asarray(((found >= -0.5) & (found <= last + 0.5)).all(axis=0)).reshape(shape)
    values = ndimage.map_coordinates(volume.voxels, np.clip(found, 0, last), order=1, output=np.float32).reshape(shape)
    values[~inside] = volume.voxels.min()
    return replace(volume, voxels=values, affine=target.affine, offsets=target.offsets, colours=()), inside
