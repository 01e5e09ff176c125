"""A dose check without a planning system: how much water a beam through the head would have to cross instead.

The water-equivalent path length of a ray is the integral of relative electron density along it. Two CT volumes that agree in it attenuate
photon beams alike. Hounsfield units become relative electron densities by the two lines of Thomas, British Journal of Radiology 72(860),
1999: 1 + HU/1000 up to 100 HU, 1 + HU/1950 for bone. Where the second lies below the first's end (100 to 195 HU) density stays at 1.1, so
that it never falls with HU.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HOUNSFIELD = (-1000.0, 100.0, 195.0, 3071.0)  # HU
ELECTRON_DENSITY = (0.0, 1.1, 1.1, 1 + 3071 / 1950)  # relative to water
RAYS = 400
STEP = 1.0  # mm along a ray


@dataclass(frozen=True)
class WaterPaths:
    """Water-equivalent path lengths in mm of the same rays (N,) through the true and the predicted CT."""

    truth: NDArray[np.float64]
    prediction: NDArray[np.float64]

    @property
    def error_mm(self) -> float:
        """Mean absolute difference in mm."""
        return float(np.abs(self.prediction - self.truth).mean())

    @property
    def error_percent(self) -> float:
        """Mean absolute difference in percent of the true length."""
        return float(100 * (np.abs(self.prediction - self.truth) / self.truth).mean())


def relative_electron_density(hounsfield: NDArray[np.floating]) -> NDArray[np.float64]:
    """Electron density relative to water of CT numbers in HU; what lies beyond the table gets its ends."""
    return np.interp(hounsfield, HOUNSFIELD, ELECTRON_DENSITY)


def water_paths(
    prediction: NDArray[np.floating],
    truth: NDArray[np.floating],
    mask: NDArray[np.bool_],
    voxel_size: tuple[float, float, float],
    rays: int = RAYS,
) -> WaterPaths:
    """Water-equivalent path lengths of `rays` straight lines through the middle of `mask`, evenly spread over all directions.

    Volumes (I, J, K) in HU with voxels of `voxel_size` mm; outside `mask` lies air. Raises ValueError for an empty mask.
    """
    if not mask.any():
        raise ValueError("an empty mask has no rays through it")
    sizes = np.asarray(voxel_size)
    middle = np.array(ndimage.center_of_mass(mask)) * sizes
    reach = np.linalg.norm(np.array(mask.shape) * sizes)
    places = np.arange(-reach, reach + STEP, STEP)
    directions = spread_directions(2 * rays)[:rays]  # one half of the sphere: a line has no sense
    points = ((middle + places[:, None, None] * directions) / sizes).transpose(2, 1, 0)
    lengths = [
        ndimage.map_coordinates(np.where(mask, relative_electron_density(volume), 0.0), points, order=1).sum(axis=1) * STEP
        for volume in (truth, prediction)
    ]
    return WaterPaths(*lengths)


def spread_directions(count: int) -> NDArray[np.float64]:
    """`count` unit vectors (count, 3) evenly spread over the sphere, from the third axis' end to its beginning (Fibonacci lattice)."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
