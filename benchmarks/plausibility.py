"""Measures of a synthetic CT of a head without truth, beside what a plausible head has.

python benchmarks/plausibility.py CT.nii.gz [MORE ...]    (a volume in HU of any format and orientation, or the folder of a DICOM series)
Exit code 2 where one is out of bounds.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

from pipeline.domain import Modality
from pipeline.errors import UserError, user_errors
from pipeline.evaluation.plausibility import WANTED, measure_plausibility
from pipeline.formats.table import read_volume
from pipeline.imaging.axial import view_axially


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
    for name, value in dataclasses.asdict(measures).items():
        low, high = WANTED[name]
        within = low <= value <= high
        every &= within
        print(f"  {name:13} {value:9.3f}   {low:g} to {high:g}   {'' if within else 'OUT OF BOUNDS'}".rstrip())
    return every


if __name__ == "__main__":
    main()
