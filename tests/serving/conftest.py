"""What every door is tested with: simulated heads and a translator with random weights."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.serving.translator import Translator
from tests.serving import examinations
from tests.tracking import projects


@pytest.fixture(scope="session")
def heads() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(CT in Hounsfield units, MR in 0..1), each (3, 128, 128), of one simulated head."""
    return examinations.heads()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/ of a project, with random weights."""
    return projects.make(tmp_path_factory.mktemp("models") / "project") / "models"


@pytest.fixture(scope="session")
def to_ct(models: Path) -> Translator:
    return Translator.from_folder(models, "mr_to_ct")


@pytest.fixture(scope="session")
def to_mr(models: Path) -> Translator:
    return Translator.from_folder(models, "ct_to_mr")
