"""A whole volume: voxels in the order of its file, where they lie in the patient, and its axial view."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.slices import Limits, NotAxial, Slice, Unit, Unreadable

THICK = 3.0  # mm; of sagittal or coronal slices farther apart an axial view shows too little
FINEST, COARSEST = 0.005, 20.0  # mm between pixels; beyond them a head would have billions of pixels, or hardly any
COARSE = 1.5  # times the other side of a voxel: with less, it is the whole volume that is coarse


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels of one examination as they lie in its file or files.

    voxels: float32 (I, J, K) in `unit`. For DICOM and pictures column, row and slice; DICOM slices run along `offsets`.
    affine: (4, 4), from voxel (i, j, k) to millimetres to the patient's right, front and head (RAS, as in nibabel); None where unknown,
        as for pictures. Its third column is the mean step where `offsets` are uneven.
    offsets: millimetres of each of the K planes along the third axis from the first one, where they are not evenly spaced; else None.
    space: the frame of reference in which the affine counts, for comparison in memory only; "" where the file names none.
    spacing: millimetres between rows and columns where these are known but the place in the patient is not.
    modality, contrast, group_key, unit, window, burned_in: as in `Slice`. colours: share of coloured pixels of each of the K planes,
        empty for none.
    format: name of its format in the table; origin: what this format needs to write another volume in its place.
    source: for messages. warnings: what a person should know, such as slices that are missing or were left out.
    """

    voxels: NDArray[np.float32] = field(repr=False)
    affine: NDArray[np.float64] | None
    unit: Unit
    format: str
    source: str
    modality: Literal["ct", "mr", ""] = ""
    contrast: str = ""
    group_key: str = ""
    offsets: tuple[float, ...] | None = None
    space: str = field(default="", repr=False)
    spacing: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    burned_in: str = ""
    colours: tuple[float, ...] = ()
    origin: Any = field(default=None, repr=False)
    warnings: list[str] = field(default_factory=list)

    @property
    def calibrated(self) -> bool:
        """Whether its format knows physical values; a picture file only knows grey."""
        return self.format != "picture"

    @property
    def voxel_size(self) -> tuple[float, float, float] | None:
        """Millimetres along the three axes of `voxels`, to six digits, since formats round an affine differently; None where unknown."""
        if self.affine is None:
            return None
        across, down, along = (float(f"{size:.6g}") for size in np.linalg.norm(self.affine[:3, :3], axis=0))
        return across, down, along

    def check_spacing(self) -> None:
        """Raises Unreadable where steps between voxels are none that a scan of a head has."""
        axes, _ = self._turn
        sizes = self.voxel_size
        in_plane = self.spacing or () if sizes is None else (sizes[axes[1]], sizes[axes[0]])
        to_next = () if sizes is None or self.voxels.shape[axes[2]] == 1 else (sizes[axes[2]],)
        wrong = [step for step in (*in_plane, *to_next) if step < FINEST] + [step for step in in_plane if step > COARSEST]
        if wrong:
            expected = f"expected {FINEST:g} to {COARSEST:g} mm between pixels"
            raise Unreadable(f"{self.source}: voxels of {wrong[0]:.3g} mm; {expected}, so its spacing is damaged")

    @cached_property
    def slices(self) -> list[Slice]:
        """Axial slices from foot to head, as radiologists see them: the patient's front at the top, the patient's right at the left.

        Oblique volumes are not resampled: a slice is the nearest plane of stored voxels. Without an affine, the planes as stored.
        Uneven sagittal or coronal planes (one is missing, say) are brought to even steps, so that a slice is not squeezed there.
        Raises NotAxial for volumes of thick sagittal or coronal slices.
        """
        axes, signs = self._turn
        sizes, voxels = self.voxel_size, self.voxels
        if self.even_planes is not None and sizes is not None:
            voxels = _interpolate(voxels, np.asarray(self.offsets), self.even_planes)
            sizes = (sizes[0], sizes[1], float(self.even_planes[1]))
        turned = voxels.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
        spacing = self.spacing if sizes is None else (sizes[axes[1]], sizes[axes[0]])
        if self.voxels.shape[axes[2]] > 1 and 1 in turned.shape[:2]:
            raise NotAxial(f"{self.source}: a sagittal or coronal slice; only axial slices and whole volumes are used")
        if sizes is not None and self.voxels.shape[axes[2]] > 1:
            self._check_thickness(sizes[axes[1]], sizes[axes[0]])
        places = self._positions()
        colours = self.colours[:: signs[2]] if axes[2] == 2 else ()
        return [
            Slice(
                turned[:, :, k].T,
                unit=self.unit,
                frame=k,
                modality=self.modality,
                spacing=spacing,
                group_key=self.group_key,
                contrast=self.contrast,
                window=self.window,
                burned_in=self.burned_in,
                position=places[k],
                colour=colours[k] if colours else max(self.colours, default=0.0),
            )
            for k in range(turned.shape[2])
        ]

    def stored(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pictures (N, H, W), one for each of `slices`, as voxels (I, J, K). Raises ValueError for another number of them."""
        axes, signs = self._turn
        if len(images) != self.voxels.shape[axes[2]]:
            raise ValueError(f"{len(images)} pictures for {self.voxels.shape[axes[2]]} slices")
        turned = images.transpose(2, 1, 0)[tuple(slice(None, None, sign) for sign in signs)]
        voxels = turned.transpose(np.argsort(axes))
        even = self.even_planes
        return voxels if even is None else _interpolate(voxels, even, np.asarray(self.offsets))

    @cached_property
    def even_planes(self) -> NDArray[np.float64] | None:
        """Evenly spaced places (mm, as `offsets`) to which uneven planes are brought that axial slices run across; None elsewhere."""
        if self.offsets is None or self._turn[0][2] == 2:
            return None
        return np.linspace(0, self.offsets[-1], round(self.offsets[-1] / float(np.median(np.diff(self.offsets)))) + 1)

    def _check_thickness(self, to_back: float, to_left: float) -> None:
        """Raises NotAxial where steps (mm) within axial slices are those of thick coronal or sagittal ones, or many of them are lost."""
        plane = "coronal" if to_back > to_left else "sagittal"
        limit = f"axial slices are made of steps of at most {THICK:g} mm, so take an axial or a thin series"
        if max(to_back, to_left) > max(THICK, COARSE * min(to_back, to_left)):
            raise NotAxial(f"{self.source}: {plane} slices {max(to_back, to_left):.3g} mm apart; {limit}")
        if self.even_planes is not None and (gap := float(np.diff(np.asarray(self.offsets)).max())) > 2 * THICK:
            raise NotAxial(f"{self.source}: sagittal or coronal slices with a gap of {gap:.3g} mm; {limit}, or find the missing slices")

    @property
    def _turn(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(axes, signs): which axis of `voxels` runs to the left, to the back and to the head, and whether forwards (1) or backwards."""
        if self.affine is None:
            return (0, 1, 2), (1, 1, 1)
        axes, directions = nearest_axes(self.affine)
        return axes, tuple(direction * seen for direction, seen in zip(directions, (-1, -1, 1), strict=True))

    def _positions(self) -> Sequence[float | None]:
        """Millimetres of each axial slice along the normal of its plane."""
        axes, signs = self._turn
        count = self.voxels.shape[axes[2]]
        if self.affine is None:
            return [None] * count
        normal = np.cross(self.affine[:3, axes[0]], self.affine[:3, axes[1]])
        normal *= np.sign(normal[2]) / np.linalg.norm(normal)
        first, step = float(normal @ self.affine[:3, 3]), float(normal @ self.affine[:3, axes[2]])
        if self.offsets is not None and axes[2] == 2:
            places = [first + offset * np.sign(step) for offset in self.offsets]
        else:
            places = [first + k * step for k in range(count)]
        return [round(float(place), 4) for place in places[:: signs[2]]]


def nearest_axes(affine: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(axes, signs): the voxel axis nearest to the patient's right, front and head, and whether it runs there (1) or away (-1).

    Raises ValueError for an affine without three directions.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise ValueError("no three directions")
    cosines = affine[:3, :3] / lengths
    left = np.abs(cosines)
    axes = [-1, -1, -1]
    for _ in range(3):  # the best fitting pair first, as nibabel does
        world, voxel = np.unravel_index(np.argmax(left), left.shape)
        axes[int(world)] = int(voxel)
        left[world, :] = left[:, voxel] = -1
    return tuple(axes), tuple(int(np.sign(cosines[world, axes[world]])) for world in range(3))


def check_shape(path: Path, shape: tuple[int, ...], limits: Limits) -> None:
    """Raises Unreadable where a volume (I, J, K) is beyond `limits`, whichever of its axes is taken for that of the slices."""
    short, middle, long = sorted(shape)
    limits.check(path, middle, long, short)
    if long > limits.slices:
        raise Unreadable(f"{path}: claims {' × '.join(map(str, shape))} voxels; at most {limits.slices} a side are read")


def as_values(numbers: NDArray[Any], path: Path) -> tuple[NDArray[np.float32], Unit]:
    """Numbers of a file as float32, and what they are: bytes are grey in 0..1, others "raw". Raises as `without_gaps`.

    Nothing is measured as more than half of what 32 bits hold: there -1000 was stored without its sign.
    """
    if numbers.dtype == np.uint8:
        return np.asarray(numbers / np.float32(255), np.float32), "grey"
    if numbers.dtype.kind == "u" and numbers.itemsize > 2:
        numbers = numbers.astype(np.uint32).view(np.int32) if numbers.max(initial=0) < 2**32 else numbers.astype(np.int64)
    return without_gaps(numbers.astype(np.float32), path), "raw"


def without_gaps(values: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """`values` with the lowest number where there was none. Raises Unreadable where there is no number at all."""
    known = np.isfinite(values)
    if not known.all():
        if not known.any():
            raise Unreadable(f"{path}: no voxel holds a number")
        values[~known] = values[known].min()
    return values


def _interpolate(voxels: NDArray[np.float32], places: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float32]:
    """`voxels`, whose planes across the third axis lie at `places`, at the places that are `wanted` between them."""
    before = np.clip(np.searchsorted(places, wanted, side="right") - 1, 0, len(places) - 2)
    share = np.float32((wanted - places[before]) / (places[before + 1] - places[before]))
    return np.asarray(voxels[:, :, before] * (1 - share) + voxels[:, :, before + 1] * share, np.float32)
