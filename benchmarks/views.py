"""A volume and its translation side by side in three planes, to be looked at: source, soft tissue (40/400 HU), bone (500/3000 HU).

python benchmarks/views.py MR CT OUT.png    (volumes of any format and orientation, or folders of DICOM series)
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.domain import Modality
from pipeline.errors import UserError, user_errors
from pipeline.formats.table import read_volume
from pipeline.imaging.axial import view_axially
from pipeline.imaging.intensity import stretch, window_bounds
from pipeline.params import Window

Picture = NDArray[np.float32]
AXIAL = (0.35, 0.45, 0.55, 0.65, 0.75, 0.88)  # heights, from the lowest slice to the topmost
WINDOWS = (Window(level=40, width=400), Window(level=500, width=3000))
GAP = 4  # pixels between pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mr", type=Path)
    parser.add_argument("ct", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with user_errors():
        mr, sizes = read(arguments.mr, Modality.MR)
        ct, same = read(arguments.ct, Modality.CT)
        if mr.shape != ct.shape or not np.allclose(sizes, same, atol=1e-3):
            raise UserError(f"{arguments.ct}: {ct.shape} voxels, those of {arguments.mr} are {mr.shape}; expected a translation of it")
        shown = [stretch(mr, float(mr.min()), float(np.percentile(mr, 99.5))), *(stretch(ct, *window_bounds(each)) for each in WINDOWS)]
        Image.fromarray(np.rint(draw(shown, sizes) * 255).astype(np.uint8)).save(arguments.out)


def read(path: Path, modality: Modality) -> tuple[Picture, tuple[float, float, float]]:
    """(slices (N, H, W) from foot to head, millimetres between slices, rows and columns). Raises UserError without a place."""
    slices = view_axially(read_volume(path, modality, "hu" if modality is Modality.CT else "auto")).volume.slices
    places = [slice_.position for slice_ in slices if slice_.position is not None]
    spacing = slices[0].spacing
    if spacing is None or len(places) < 2:
        raise UserError(f"{path}: does not say how large its voxels are; expected a volume in millimetres")
    return np.stack([slice_.pixels for slice_ in slices]), (float(np.median(np.diff(places))), *spacing)


def draw(volumes: list[Picture], sizes: tuple[float, float, float]) -> Picture:
    """Axial slices in two lines, under them a sagittal and a coronal one, each of all `volumes` (N, H, W) in 0..1; a millimetre a pixel."""
    up, down, across = sizes
    count, height, width = volumes[0].shape
    axial = [beside([scale(each[int(share * (count - 1))], down, across) for each in volumes]) for share in AXIAL]
    sagittal = beside([scale(each[::-1, :, width // 2], up, down) for each in volumes])
    coronal = beside([scale(each[::-1, height // 2, :], up, across) for each in volumes])
    lines = [beside(axial[:3]), beside(axial[3:]), beside([sagittal, coronal])]
    widest = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(line, ((0, GAP), (0, widest - line.shape[1]))) for line in lines])


def scale(picture: Picture, down: float, across: float) -> Picture:
    """A picture with pixels of `down` × `across` mm as one of 1 × 1 mm."""
    size = (max(1, round(picture.shape[1] * across)), max(1, round(picture.shape[0] * down)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture, np.float32)).resize(size, Image.Resampling.BILINEAR))


def beside(pictures: list[Picture]) -> Picture:
    tallest = max(picture.shape[0] for picture in pictures)
    return np.concatenate([np.pad(each, ((0, tallest - each.shape[0]), (0, GAP))) for each in pictures], axis=1)


if __name__ == "__main__":
    main()
