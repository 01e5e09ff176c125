"""A synthetic picture or volume on its way into a file, and what the model that made it says of itself."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError

WARNING = "SYNTHETIC, NOT FOR DIAGNOSIS"


@dataclass(frozen=True)
class Label:
    """What a model says about itself: shown beside every translation and written into DICOM tags.

    `name` such as mr-to-ct, `version` in the registry ("" for a folder), `digest` of its weights, `scores` on the test slices.
    `in_the_box`: it came with this package.
    """

    name: str
    version: str = ""
    digest: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    in_the_box: bool = False

    def __str__(self) -> str:
        place = "in the box " if self.in_the_box else ""
        return f"{self.name} {f'version {self.version}' if self.version else place + self.digest[:8]}"


@dataclass(frozen=True)
class Synthetic:
    """What is to be written: voxels (I, J, K) in the order of the source's `Volume.voxels`, and what made them.

    Unit "hu": Hounsfield units; "grey": 0..1. `contrast` is the MR contrast that was asked for, "" for none; `window` (level, width) is
    what a viewer should show of CT.
    """

    voxels: NDArray[np.float32]
    unit: Literal["hu", "grey"]
    label: Label
    contrast: str
    window: tuple[float, float]

    def numbers(self) -> NDArray[Any]:
        """The voxels as volume files hold them: int16 Hounsfield units, or float32 grey values."""
        return np.rint(self.voxels).astype(np.int16) if self.unit == "hu" else self.voxels.astype(np.float32)

    def images(self) -> NDArray[np.float32]:
        """The planes (K, rows, columns), for formats that keep one picture a slice."""
        return self.voxels.transpose(2, 1, 0)


def check_name(target: Path, kind: str, endings: tuple[str, ...]) -> None:
    """Raises UserError unless the name of `target` has one of the `endings` of files of this `kind`."""
    if not target.name.lower().endswith(endings):
        raise UserError(f"{target}: the result is a {kind} file; give it a name that ends in {', '.join(endings)}")
