"""The planes that networks see of a volume: axial ones, and of fine volumes coronal and sagittal ones too; and back onto its own voxels.

A volume whose axes lie near those of the patient is cut along its stored planes, without interpolation. One that is turned farther would
show the networks slices that no axial scan has: it is resampled once each way. Tilted stacks of thick axial slices stay as they were
acquired: between thick slices there is nothing to resample.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.formats.volume import THICK, Volume, nearest_axes
from pipeline.imaging.surroundings import clear_surroundings

TALL = 100.0  # mm of a head from foot to vertex, at least; of a slab, other planes show too little
EXCHANGES = ((0, 2, 1, 3), (2, 1, 0, 3))  # of the patient's axes, by which coronal and sagittal planes are seen as if axial
TURNED = 8.0  # degrees between a volume's axes and the patient's, beyond which it is resampled
ROUNDING = 0.01  # voxels by which formats may store the same place differently, which makes no plane more


@dataclass(frozen=True)
class AxialView:
    """A volume to translate slice by slice, and what brings results back to the voxels of the volume that it was made from."""

    volume: Volume
    to_source: NDArray[np.float64] | None  # (4, 4), from voxels of the source to voxels of `volume`; None where they are the same
    source: Volume

    def restore(self, images: NDArray[np.float32], hounsfield: bool = False) -> NDArray[np.float32]:
        """Pictures (N, H, W), one for each slice of `volume`, on the source's voxels (I, J, K), all of which the view reaches.

        `hounsfield`: they are CT, so that what interpolation mixes of skin and air around the head is air again.
        """
        voxels = self.volume.stored(images)
        if self.to_source is not None:
            shape = self.source.voxels.shape
            voxels = np.asarray(ndimage.affine_transform(voxels, self.to_source, output_shape=shape, order=1, mode="nearest"), np.float32)
        elif self.volume.even_planes is None:
            return voxels
        if not hounsfield:
            return voxels
        assert self.source.affine is not None
        upwards = nearest_axes(self.source.affine)[0][2]
        return np.moveaxis(clear_surroundings(np.moveaxis(voxels, upwards, 0)), 0, upwards)


def view_axially(volume: Volume) -> AxialView:
    """How `volume` is seen slice by slice: as stored, or resampled to the patient's axes where it is turned against them."""
    affine, sizes = volume.affine, volume.voxel_size
    if affine is None or sizes is None or volume.offsets is not None or max(sizes) > THICK or turn_of(affine) <= TURNED:
        return AxialView(volume, None, volume)
    axes, _ = nearest_axes(affine)
    steps = np.array([sizes[axis] for axis in axes])
    corners = np.array(np.meshgrid(*[(0, length - 1) for length in volume.voxels.shape])).reshape(3, -1)
    reach = affine[:3, :3] @ corners + affine[:3, 3:]
    first, last = reach.min(axis=1), reach.max(axis=1)
    straight = np.diag([*steps, 1.0])
    straight[:3, 3] = first
    shape = tuple(int(count) for count in np.ceil((last - first) / steps - ROUNDING).astype(int) + 1)
    voxels = ndimage.affine_transform(
        volume.voxels, np.linalg.inv(affine) @ straight, output_shape=shape, order=1, cval=float(volume.voxels.min())
    )
    axial = replace(volume, voxels=np.asarray(voxels, np.float32), affine=straight, colours=())
    return AxialView(axial, np.linalg.inv(straight) @ affine, volume)


def is_fine(volume: Volume, size: float) -> bool:
    """Whether `volume` has voxels of at most `size` mm on an even grid, so that planes across its axial slices are worth looking at."""
    sizes = volume.voxel_size
    return sizes is not None and volume.offsets is None and max(sizes) <= size


def cut_across(volume: Volume, first: int, last: int) -> list[Volume]:
    """The same voxels with their axes exchanged: axial slices of the two results are coronal and sagittal slices of `volume`.

    Coronal slices have the head's top at their top, sagittal ones its front. They show the axial slices from `first` to `last`, and the
    lowest value elsewhere. Nothing where these are less than TALL apart, or the volume does not know its place.
    """
    if volume.affine is None or volume.voxel_size is None:
        return []
    axes, signs = nearest_axes(volume.affine)
    if (last - first + 1) * volume.voxel_size[axes[2]] < TALL:
        return []
    voxels = np.full_like(volume.voxels, volume.voxels.min())
    seen, shown = (np.moveaxis(each, axes[2], 0)[:: signs[2]] for each in (volume.voxels, voxels))
    shown[first : last + 1] = seen[first : last + 1]
    return [replace(volume, voxels=voxels, affine=volume.affine[list(exchange)]) for exchange in EXCHANGES]


def plane_step(volume: Volume) -> float:
    """Millimetres from one axial slice of `volume` to the next. Raises ValueError where it does not know its place."""
    if volume.affine is None or volume.voxel_size is None:
        raise ValueError("a volume without millimetres")
    return volume.voxel_size[nearest_axes(volume.affine)[0][2]]


def fill_between(pictures: NDArray[np.float32], every: int, count: int) -> NDArray[np.float32]:
    """`count` pictures of which every `every`th is there (N, H, W): the others lie linearly between their neighbours."""
    places = np.minimum(np.arange(count) / every, len(pictures) - 1)
    low = np.floor(places).astype(int)
    share = (places - low).astype(np.float32)[:, None, None]
    filled: NDArray[np.float32] = pictures[low] * (1 - share) + pictures[np.ceil(places).astype(int)] * share
    return filled


def turn_of(affine: NDArray[np.float64]) -> float:
    """Degrees between the axes of a volume and the patient's axes nearest to them, the largest of three."""
    axes, signs = nearest_axes(affine)
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    along = [sign * cosines[world, axis] for world, (axis, sign) in enumerate(zip(axes, signs, strict=True))]
    return float(np.rad2deg(np.arccos(np.clip(min(along), -1, 1))))
