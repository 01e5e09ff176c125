"""The whole graph on real slices, which Kaggle's own client downloads from a stand-in for Kaggle; trained briefly."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from pipeline import paths
from tests.graph.projects import STAGES, copy_project
from tests.sources.kaggle_server import KaggleServer

HANDLE = "darren2020/ct-to-mri-cgan"
EVERY = 15  # tests/sources/test_kaggle.py brings all 1200


def one_in(every: int, archive: Path) -> bytes:
    """An archive of one file in `every` of each folder of `archive`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(packed, "w") as part:
        folders: dict[str, list[str]] = {}
        for name in sorted(whole.namelist()):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
        for name in (name for names in folders.values() for name in names[::every]):
            part.writestr(name, whole.read(name))
    return packed.getvalue()


@pytest.mark.real
@pytest.mark.kaggle_port
def test_from_download_to_registered_models(kaggle_server: KaggleServer, real_data: Path, tmp_path: Path) -> None:
    kaggle_server.serve(HANDLE, 1, one_in(EVERY, real_data / "ct-to-mri-cgan.zip"))
    project = copy_project(tmp_path, "smoke", "data.source=kaggle", "train.images=8", "train.teacher.images=8")
    project.run_stages(*STAGES)
    source = json.loads((project.folder / paths.SOURCE_JSON).read_text())
    assert (source["source"], source["handle"], source["version"], source["counts"]) == ("kaggle", HANDLE, 1, {"ct": 40, "mr": 40})
    assert any(request.startswith("GET") for request in kaggle_server.requests)
    metrics = json.loads((project.folder / paths.METRICS_JSON).read_text())
    for direction in paths.DIRECTIONS:
        assert 0 <= metrics["test"][direction]["cycle_mae"] <= 1
        assert -1 <= metrics["test"][direction]["cycle_ssim"] <= 1
    versions = (project.folder / paths.VERSIONS_JSON).read_text()
    assert "ct-to-mr" in versions
    assert "mr-to-ct" in versions
    project.run("dvc", "commit", "-f")
    asked = len(kaggle_server.requests)
    assert re.findall(r"Running stage '(\w+)'", project.repro()) == ["look"]  # which runs every time
    assert len(kaggle_server.requests) == asked
