"""Measures of a synthetic CT of a head without truth, beside what a plausible head has: air outside, brain, skull, sinuses, flicker.

They say what is wrong with a volume, not that it is right: the CT of another head is perfect in all of them.

python benchmarks/plausibility.py CT.nii.gz [MORE ...]    (a volume in HU of any format and orientation, or the folder of a DICOM series)
Exit code 2 where one is out of bounds.
"""

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import Modality
from pipeline.errors import UserError, user_errors
from pipeline.evaluation.bulk_density import HEAD, largest_piece
from pipeline.evaluation.volume_scores import AIR
from pipeline.evaluation.water_path import spread_directions
from pipeline.formats.table import read_volume
from pipeline.imaging.axial import view_axially

AIR_OUTSIDE = -1000.0  # HU
SKULL = 300.0  # HU from which a ray has met bone
RAYS = 1800  # over the upper half of the head
CENTRE = 80.0  # mm below the vertex: the middle of the brain
CORE = 30.0  # mm, radius of the brain's core around it
OUTER = 35.0  # mm below the skin in which the skull lies
STEP = 0.25  # mm along a ray


@dataclass(frozen=True)
class Plausibility:
    """Measures of a synthetic CT. HU unless named otherwise; NaN where there is nothing to measure.

    outside: share of the voxels outside the head that are exactly -1000. brain: median of its core.
    closed: share of the rays over the upper half that meet bone.
    peak, thickness_mm: medians over these rays of the highest value, and of the length in bone around it.
    sinus: median of the air enclosed in the lower half; sinus_ml: its volume.
    flicker: step from plane to plane over that in the plane, per mm.
    """

    outside: float
    brain: float
    closed: float
    peak: float
    thickness_mm: float
    sinus: float
    sinus_ml: float
    flicker: float


WANTED = {  # lowest and highest value of a plausible head
    "outside": (1.0, 1.0),
    "brain": (25.0, 45.0),
    "closed": (0.97, 1.0),
    "peak": (700.0, 1900.0),
    "thickness_mm": (3.0, 10.0),
    "sinus": (-1024.0, AIR),
    "sinus_ml": (5.0, 200.0),
    "flicker": (0.0, 1.1),
}


def measure_plausibility(hounsfield: NDArray[np.floating], voxel_size: tuple[float, float, float]) -> Plausibility:
    """Measures of a CT (I, J, K) in HU whose axes run to the patient's right or left, front or back, and head (K), voxels in mm.

    Raises ValueError when nothing in it is a head.
    """
    head = largest_piece(hounsfield > HEAD)
    if not head.any():
        raise ValueError(f"no voxel above {HEAD:g} HU, so there is no head")
    outside = hounsfield[~head]
    vertex = int(np.flatnonzero(head.any(axis=(0, 1)))[-1])
    middle = max(0, round(vertex - CENTRE / voxel_size[2]))
    centre = np.array([*ndimage.center_of_mass(head[:, :, middle]), middle]) if head[:, :, middle].any() else np.full(3, np.nan)
    closed, peak, thickness = _skull(hounsfield, head, centre, voxel_size)
    enclosed = head[:, :, :middle] & (hounsfield[:, :, :middle] < AIR)
    return Plausibility(
        outside=float((outside == AIR_OUTSIDE).mean()) if outside.size else float("nan"),
        brain=float(np.median(hounsfield[_ball(head.shape, centre, voxel_size)])),
        closed=closed,
        peak=peak,
        thickness_mm=thickness,
        sinus=float(np.median(hounsfield[:, :, :middle][enclosed])) if enclosed.any() else float("nan"),
        sinus_ml=float(enclosed.sum() * np.prod(voxel_size) / 1000),
        flicker=flicker(hounsfield, head, voxel_size),
    )


def _ball(shape: tuple[int, ...], centre: NDArray[np.float64], voxel_size: tuple[float, float, float]) -> NDArray[np.bool_]:
    distance = sum(
        np.square((np.arange(side) - middle) * size).reshape([-1 if each == axis else 1 for each in range(3)])
        for axis, (side, middle, size) in enumerate(zip(shape, centre, voxel_size, strict=True))
    )
    return np.asarray(distance <= CORE**2)


def _skull(
    hounsfield: NDArray[np.floating], head: NDArray[np.bool_], centre: NDArray[np.float64], voxel_size: tuple[float, float, float]
) -> tuple[float, float, float]:
    """(share of rays over the upper half that meet bone, medians over these of their peak in HU and of their length in bone in mm)."""
    sizes = np.asarray(voxel_size)
    directions = spread_directions(2 * RAYS)[:RAYS]
    places = np.arange(0, 200, STEP)
    points = (centre[:, None, None] + (directions[:, None, :] * places[None, :, None] / sizes).transpose(2, 0, 1)).reshape(3, -1)
    values = ndimage.map_coordinates(np.float32(hounsfield), points, order=1, cval=AIR_OUTSIDE).reshape(RAYS, -1)
    inside = ndimage.map_coordinates(np.float32(head), points, order=1).reshape(RAYS, -1) > 0.5
    skin = inside.shape[1] - np.argmax(inside[:, ::-1], axis=1) - 1
    shell = inside & (places[None, :] >= places[skin][:, None] - OUTER)
    values = np.where(shell, values, AIR_OUTSIDE)
    top = np.argmax(values, axis=1)
    peaks = values[np.arange(RAYS), top]
    met = peaks >= SKULL
    if not met.any():
        return 0.0, float("nan"), float("nan")
    thickness = [_run_length(values[ray] >= SKULL, int(top[ray])) * STEP for ray in np.flatnonzero(met)]
    return float(met.mean()), float(np.median(peaks[met])), float(np.median(thickness))


def _run_length(bone: NDArray[np.bool_], place: int) -> int:
    """Length of the run of true around `place`."""
    ends = np.flatnonzero(~bone)
    before, after = ends[ends < place], ends[ends > place]
    return int((after[0] if after.size else len(bone)) - (before[-1] if before.size else -1) - 1)


def flicker(hounsfield: NDArray[np.floating], mask: NDArray[np.bool_], voxel_size: tuple[float, float, float], axis: int = 2) -> float:
    """Mean step of HU along `axis`, the one from foot to head, over the mean step in the planes across it, per mm, inside `mask`.

    1: neighbouring planes agree as neighbouring pixels of a plane do. NaN where the volume is flat or `mask` has no neighbours.
    """
    steps = []
    for each in range(3):
        both = np.take(mask, range(1, mask.shape[each]), each) & np.take(mask, range(mask.shape[each] - 1), each)
        change = np.abs(np.diff(np.float64(hounsfield), axis=each))[both]
        steps.append(change.mean() / voxel_size[each] if change.size else np.nan)
    in_plane = np.mean([step for each, step in enumerate(steps) if each != axis])
    return float(steps[axis] / in_plane) if in_plane else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    with user_errors():
        plausible = [report(file) for file in parser.parse_args().files]
    sys.exit(0 if all(plausible) else 2)


def report(file: Path) -> bool:
    """Print the measures of one volume; whether all are within their bounds. Raises UserError where it has no place or no head."""
    slices = view_axially(read_volume(file, Modality.CT, "hu")).volume.slices
    places = [slice_.position for slice_ in slices if slice_.position is not None]
    spacing = slices[0].spacing
    if spacing is None or len(places) < 2:
        raise UserError(f"{file}: does not say how large its voxels are; expected a volume in millimetres")
    sizes = (spacing[1], spacing[0], float(np.median(np.diff(places))))
    voxels = np.stack([slice_.pixels for slice_ in slices]).transpose(2, 1, 0)
    try:
        measures = measure_plausibility(voxels, sizes)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    print(f"{file}: {' × '.join(map(str, voxels.shape))} voxels of {' × '.join(f'{size:.3g}' for size in sizes)} mm, seen axially")
    every = True
    for name, value in asdict(measures).items():
        low, high = WANTED[name]
        within = low <= value <= high
        every &= within
        print(f"  {name:13} {value:9.3f}   {low:g} to {high:g}   {'' if within else 'OUT OF BOUNDS'}".rstrip())
    return every


if __name__ == "__main__":
    main()
