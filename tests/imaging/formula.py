"""A head as a formula, so that every grid samples it exactly: a small one, with scalp, dark skull, and a brain with folds."""

from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RADII = (48.0, 60.0, 40.0)  # mm of the head: a small one, so that few planes show all of it
EXTENT = (60.0, 72.0, 50.0)  # mm that a volume reaches to both sides of its middle


def head(right: Array, front: Array, up: Array) -> Array:
    """MR brightness at places in mm, the same for left and right nowhere: scalp, dark skull, brain with folds, one bright spot."""
    size = depth(right, front, up)
    brain = 450 + 120 * np.sin(right / 8 + 0.3) * np.cos(front / 9) * np.sin(up / 8 + 0.5)
    spot = (right - 20) ** 2 + (front - 20) ** 2 + (up - 10) ** 2 < 9**2
    return np.select([size > 1, size > 0.92, size > 0.8, spot], [4, 800, 60, 760], brain)


def depth(right: Array, front: Array, up: Array) -> Array:
    """0 in the middle of the head, 1 on its surface."""
    return np.sqrt((right / RADII[0]) ** 2 + (front / RADII[1]) ** 2 + (up / RADII[2]) ** 2)


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], turn: Array | None = None) -> tuple[Array, tuple]:
    """(affine, shape) of voxels whose k-th axis runs along the patient's axis `axes[k]`, `signs[k]` way, all turned about the middle."""
    shape = tuple(round(2 * EXTENT[axis] / size) for axis, size in zip(axes, spacing, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for k, (axis, sign, size) in enumerate(zip(axes, signs, spacing, strict=True)):
        affine[axis, k] = sign * size
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def sample(affine: Array, shape: tuple[int, ...]) -> NDArray[np.int16]:
    places = affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
    return head(*places).reshape(shape).astype(np.int16)


def save(file: Path, affine: Array, shape: tuple[int, ...]) -> Path:
    nibabel.save(nibabel.Nifti1Image(sample(affine, shape), affine), file)
    return file


def turned(degrees: float, axis: int) -> Array:
    """Rotation about a patient's axis."""
    one, other = (each for each in range(3) if each != axis)
    turn, angle = np.eye(3), np.deg2rad(degrees)
    turn[[one, other], [one, other]] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    return turn
