"""A project that the doctor finds well."""

import shutil
from pathlib import Path

import pytest

from pipeline import params
from pipeline.tracking import doctor
from pipeline.tracking.registration import register
from tests.tracking import projects


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose models are registered."""
    with pytest.MonkeyPatch.context() as patch:
        folder = projects.make(tmp_path_factory.mktemp("doctor") / "project")
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register(params.load())
    return folder


@pytest.fixture
def project(registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it of which all is well, as working folder."""
    folder = shutil.copytree(registered, tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (moved,) = doctor.examine_rest(fix=True)
    assert "made in another place" in moved.finding.problem
    return folder
