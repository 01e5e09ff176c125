"""What every evaluation needs and takes long to draw is drawn once for all tests of a process."""

import functools

import pytest

from pipeline.evaluation import planted_lesions
from pipeline.params import Preprocess


@functools.cache
def _plant(preprocess: str) -> list[planted_lesions.PlantedLesion]:
    return _plant_lesions(Preprocess.model_validate_json(preprocess))


_plant_lesions = planted_lesions.plant_lesions


@pytest.fixture(autouse=True)
def _lesions_are_planted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same heads with the same lesions for the same params: a second of each evaluation."""
    monkeypatch.setattr(planted_lesions, "plant_lesions", lambda preprocess: _plant(preprocess.model_dump_json()))
