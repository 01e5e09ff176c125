"""A synthetic picture or volume on its way into a file, and what the model that made it says of itself."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARNING = "SYNTHETIC, NOT FOR DIAGNOSIS"


@dataclass(frozen=True)
class Label:
    """What a model says about itself: shown beside every translation and written into DICOM tags.

    `name` such as mr-to-ct, `version` in the registry ("" for a folder), `digest` of its weights, `scores` on the test slices.
    """

    name: str
    version: str = ""
    digest: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {f'version {self.version}' if self.version else self.digest[:8]}"


@dataclass(frozen=True)
class Synthetic:
    """What is to be written: images (N, H, W), in Hounsfield units (unit "hu") or 0..1 (unit "grey"), and what made them.

    `contrast` is the MR contrast that was asked for, "" for none; `window` (level, width) is what a viewer should show of CT.
    """

    images: NDArray[np.float32]
    unit: str
    label: Label
    contrast: str
    window: tuple[float, float]


def to_uint(image01: NDArray[np.float32], bits: int = 8) -> NDArray[Any]:
    """Grey values in 0..1 as integers of 8 or 16 bits."""
    return np.rint(np.clip(image01, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
