"""Real examinations, where they are at hand."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.formats import table
from tests.conftest import PROJECT


@pytest.fixture(scope="session")
def real_volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the folders ct_head_tilted, ct_phantom_study and mr_mprage_sagittal; skips where their archives are absent."""
    import os

    archives = Path(os.environ.get("REAL_DATA", PROJECT / "../shared/data")).resolve() / "volumes"
    if not archives.is_dir():
        pytest.skip(f"real volumes absent: no {archives}; set REAL_DATA")
    folder = tmp_path_factory.mktemp("volumes")
    for archive in archives.glob("*.zip"):
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder / archive.stem)
    return folder


@pytest.fixture(scope="session")
def real_ct(real_volumes: Path) -> NDArray[np.float32]:
    """A real head (N, H, W) in Hounsfield units."""
    return table.read_volume(real_volumes / "ct_head_tilted", "ct").voxels.transpose(2, 1, 0)
