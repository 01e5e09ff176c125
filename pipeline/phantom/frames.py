"""The pixel grid of a simulated picture, and the coarser one on the part around the head where anatomy is worked out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.phantom.shapes import Floats

FIELD_OF_VIEW = 256.0  # mm a side of a picture
HEAD_LENGTH, HEAD_WIDTH = 240.0, 200.0  # mm; the part of a picture that heads lie in
FINEST = 1.3  # mm; anatomy is worked out on a grid no finer than this, since the atlas holds no more


@dataclass(frozen=True)
class Frame:
    """The picture's pixel grid, and the coarser one on the part around the head where anatomy is worked out."""

    size: int  # pixels a side of the picture
    spacing: float  # mm a pixel
    top: int  # first row and column of the part, and its sides, in pixels of the picture
    left: int
    height: int
    width: int
    rows: int  # of the coarser grid
    columns: int

    @property
    def grid_spacing(self) -> float:
        """Millimetres between points of the coarser grid."""
        return self.height * self.spacing / self.rows

    def offsets(self) -> tuple[Floats, Floats]:
        """Where the coarser grid's rows and columns lie, in mm behind and right of the picture's middle."""
        centre = (self.size - 1) / 2
        down = self.top + (np.arange(self.rows) + 0.5) * (self.height / self.rows) - 0.5 - centre
        right = self.left + (np.arange(self.columns) + 0.5) * (self.width / self.columns) - 0.5 - centre
        return (down * self.spacing).astype(np.float32), (right * self.spacing).astype(np.float32)

    def to_picture(self, values: Floats, background: float) -> Floats:
        """Values on the coarser grid (rows, columns) as a whole picture (size, size)."""
        part = values.astype(np.float32)
        if part.shape != (self.height, self.width):
            part = np.asarray(Image.fromarray(part).resize((self.width, self.height), Image.Resampling.BICUBIC))
        whole = np.full((self.size, self.size), background, np.float32)
        whole[self.top : self.top + self.height, self.left : self.left + self.width] = part
        return whole

    def to_label_picture(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Tissue labels on the coarser grid (rows, columns) as a whole picture (size, size), each pixel by its nearest point."""
        whole = np.zeros((self.size, self.size), np.uint8)
        part = np.asarray(Image.fromarray(values).resize((self.width, self.height), Image.Resampling.NEAREST))
        whole[self.top : self.top + self.height, self.left : self.left + self.width] = part
        return whole


def make_frame(size: int, spacing: float) -> Frame:
    """The grid for a picture of `size` pixels of `spacing` mm."""
    height, width = (min(size, 2 * round(side / spacing / 2)) for side in (HEAD_LENGTH, HEAD_WIDTH))
    shrink = min(1.0, spacing / FINEST)
    return Frame(size, spacing, (size - height) // 2, (size - width) // 2, height, width, round(height * shrink), round(width * shrink))
