"""Which MR contrast a slice shows, estimated from the picture alone where the file does not say it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

MIDDLE = 0.55  # of the head's size: the part where fluid-filled ventricles stand against brain


def estimate(image01: NDArray[np.float32], mask: NDArray[np.bool_]) -> tuple[str, float]:
    """(contrast, confidence 0..1) of an MR picture (H, W) with head `mask`; ("", 0) where there is no head.

    Fluid bright against brain skews intensities in the middle of the head to the right (T2), dark fluid to the left (T1, FLAIR).
    """
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return "", 0.0
    middle_row, middle_column = rows.mean(), columns.mean()
    height, width = np.ptp(rows) * MIDDLE / 2, np.ptp(columns) * MIDDLE / 2
    top, left = max(0, int(middle_row - height)), max(0, int(middle_column - width))
    middle = ndimage.gaussian_filter(image01, 1)[top : int(middle_row + height) + 1, left : int(middle_column + width) + 1]
    skew = float(stats.skew(middle.ravel())) if middle.std() > 0 else 0.0
    return ("t2" if skew > 0 else "t1"), float(np.tanh(abs(skew)))
