"""Real examinations, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.formats import table


@pytest.fixture(scope="session")
def real_ct(real_volumes: Path) -> NDArray[np.float32]:
    """A real head (N, H, W) in Hounsfield units."""
    return table.read_volume(real_volumes / "ct_head_tilted", "ct").voxels.transpose(2, 1, 0)
