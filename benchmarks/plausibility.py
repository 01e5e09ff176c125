"""Measures of a synthetic CT of a head without truth, beside what a plausible head has.

python benchmarks/plausibility.py CT.nii.gz [MORE.nii.gz ...]    (in HU, any orientation)
Exit code 2 where one is out of bounds.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.evaluation.plausibility import WANTED, measure_plausibility


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    plausible = [report(file) for file in parser.parse_args().files]
    sys.exit(0 if all(plausible) else 2)


def report(file: Path) -> bool:
    """Print the measures of one volume; whether all are within their bounds."""
    image = nib.as_closest_canonical(nib.load(file))
    sizes = [float(size) for size in image.header.get_zooms()[:3]]
    measures = measure_plausibility(np.asarray(image.dataobj, np.float32), (sizes[0], sizes[1], sizes[2]))
    print(f"{file}: {' × '.join(map(str, image.shape[:3]))} voxels of {' × '.join(f'{size:g}' for size in sizes)} mm")
    every = True
    for name, value in dataclasses.asdict(measures).items():
        low, high = WANTED[name]
        within = low <= value <= high
        every &= within
        print(f"  {name:13} {value:9.3f}   {low:g} to {high:g}   {'' if within else 'OUT OF BOUNDS'}".rstrip())
    return every


if __name__ == "__main__":
    main()
