"""The brain behind every simulated head: MNI152 tissue maps, and distances derived from them.

The maps are those that the package nilearn ships (1 mm, `nlin_sym_09a`); nilearn itself is not imported. Their notice:

    Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill University.
    Permission to use, copy, modify, and distribute this software and its documentation for any purpose and without fee is hereby
    granted, provided that the above copyright notice appear in all copies. The authors and McGill University make no
    representations about the suitability of this software for any purpose. It is provided "as is" without express or implied
    warranty. The authors are not responsible for any data loss, equipment damage, property loss, or injury to subjects or patients
    resulting from the use or misuse of this software package.

    VS Fonov, AC Evans, RC McKinstry, CR Almli, DL Collins, NeuroImage 47 (2009) S102.

Coordinates are MNI millimetres: x to the right, y to the front, z up, origin at the anterior commissure.
"""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.errors import UserError

Floats = NDArray[np.float32]

STEP = 4.0  # mm; distance fields are smooth, so a coarse grid carries them
LOW = np.array([-120.0, -168.0, -120.0])  # mm; corner of the coarse grid
SHAPE = (61, 74, 61)
# Where fields of a NIfTI-1 header lie (nifti.nimh.nih.gov); 1 mm voxels, so that of the affine only the corner is needed.
HEADER = np.dtype({"names": ["dim", "datatype", "srow"], "formats": ["8<i2", "<i2", "(3,4)<f4"], "offsets": [40, 70, 280], "itemsize": 348})
VOXELS_FROM, BYTES = 352, 2
CLOSING_BASE, CLOSING_VAULT = 9.0, 27.0  # mm; gaps narrower than twice this lie inside the skull, at its base and in its vault


@dataclass(frozen=True)
class Volume:
    """A scalar field on a regular grid: value at MNI point p lies at index (p - low) / step."""

    values: NDArray[np.generic]
    low: Floats
    step: float

    def sample(self, points: Floats, outside: float = 0.0) -> Floats:
        """Values at `points` (3, ...) mm, trilinear; `outside` beyond the grid."""
        return interpolate(self.values.reshape(-1, 1), self.values.shape, self.low, self.step, points, outside)[..., 0]


def interpolate(channels: NDArray[np.generic], shape: tuple[int, ...], low: Floats, step: float, points: Floats, outside: float) -> Floats:
    """Values (..., C) at `points` (3, ...) of channels (voxels, C) on a grid of `shape`; `outside` beyond it.

    Several channels cost little more than one.
    """
    strides = (shape[1] * shape[2], shape[2], 1)
    corner = np.zeros(points.shape[1:], np.int32)
    beyond = np.zeros(points.shape[1:], bool)
    parts = []
    for axis in range(3):
        index = (points[axis] - np.float32(low[axis])) * np.float32(1 / step)
        beyond |= (index < 0) | (index > shape[axis] - 1)
        whole = np.clip(index, 0, shape[axis] - 2).astype(np.int32)
        parts.append((index - whole)[..., None])
        corner += whole * np.int32(strides[axis])
    x, y, z = parts

    def along_z(offset: int) -> Floats:
        # np.take gathers rows several times as fast as indexing does.
        first, second = (np.take(channels, corner + np.int32(offset + step), axis=0) for step in (0, 1))
        first = first.astype(np.float32)
        return first + (second - first) * z

    def along_y(offset: int) -> Floats:
        first = along_z(offset)
        return first + (along_z(offset + strides[1]) - first) * y

    front = along_y(0)
    values: Floats = front + (along_y(strides[0]) - front) * x
    values[beyond] = outside
    return values


@dataclass(frozen=True)
class Atlas:
    """Grey and white matter, distance to the smooth brain hull and to the ventricles (mm, negative inside)."""

    tissue: NDArray[np.uint8]  # (voxels, 2): grey, white; 0..255
    shape: tuple[int, ...]
    low: Floats
    hull: Volume
    ventricles: Volume

    def sample_tissue(self, points: Floats) -> tuple[Floats, Floats]:
        """Shares of grey and of white matter, 0..1, at `points` (3, ...) mm."""
        shares = interpolate(self.tissue, self.shape, self.low, 1.0, points, 0.0) * np.float32(1 / 255)
        return shares[..., 0], shares[..., 1]


def _map_path(kind: str) -> Path:
    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise UserError("the package nilearn, which ships the MNI152 maps, is not installed; run `make setup`")
    return Path(package.origin).parent / "datasets" / "data" / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"


def _load(kind: str) -> Volume:
    """A map as nilearn ships it: little-endian NIfTI-1 of bytes, unscaled. (nibabel takes half a second to import, for three files.)"""
    path = _map_path(kind)
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; the phantom needs nilearn 0.14 with its MNI152 maps, reinstall from requirements.lock"
        ) from None
    header = np.frombuffer(content.ljust(VOXELS_FROM, b"\0"), HEADER, 1)[0]
    voxels = content[VOXELS_FROM:]
    if header["datatype"] != BYTES or len(voxels) != np.prod(header["dim"][1:4], dtype=int):
        raise UserError(f"{path}: not the map that nilearn 0.14 ships; reinstall from requirements.lock")
    shape = tuple(int(side) for side in header["dim"][1:4])
    return Volume(np.frombuffer(voxels, np.uint8).reshape(shape, order="F"), header["srow"][:, 3].astype(np.float32), 1.0)


def _signed_distance(inside: NDArray[np.bool_]) -> Floats:
    """Distance in mm to the border of a mask on the coarse grid, negative inside."""
    outer = ndimage.distance_transform_edt(~inside)
    inner = ndimage.distance_transform_edt(inside)
    return ((outer - inner) * STEP).astype(np.float32)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The atlas, loaded and derived once a process (about 0.6 s).

    Raises UserError when the maps are not installed.
    """
    grey, white, t1 = _load("gm"), _load("wm"), _load("t1")
    axes = [LOW[a] + STEP * np.arange(SHAPE[a]) for a in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    # The cistern above the sella is open below, so no closing would fill it: it counts as brain here.
    cistern = ((points - np.array([0, 2, -17], np.float32).reshape(3, 1, 1, 1)) ** 2).sum(0) < 13**2
    brain = (t1.sample(points) > 40) | cistern
    from_brain = _signed_distance(brain)
    base, vault = (_signed_distance(from_brain < closing) + np.float32(closing) for closing in (CLOSING_BASE, CLOSING_VAULT))
    hull = base + (vault - base) * np.clip((points[2] + 5) / 20, 0, 1)
    tissue = (grey.sample(points) + white.sample(points)) / 255
    near_midline = (np.abs(points[0]) < 48) & (points[2] > -22) & (points[2] < 38) & (points[1] > -82) & (points[1] < 42)
    deep = (tissue < 0.5) & (hull < -20) & near_midline
    parts, _ = ndimage.label(deep)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    ventricles = parts == sizes.argmax()
    low = LOW.astype(np.float32)
    return Atlas(
        tissue=np.stack([grey.values.ravel(), white.values.ravel()], 1).astype(np.uint8),
        shape=grey.values.shape,
        low=grey.low,
        hull=Volume(ndimage.gaussian_filter(hull, 0.7), low, STEP),
        ventricles=Volume(ndimage.gaussian_filter(_signed_distance(ventricles), 0.5), low, STEP),
    )
