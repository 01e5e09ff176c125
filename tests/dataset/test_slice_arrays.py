"""Arrays say how they were made, and nobody trains or evaluates on arrays that are not what params say."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from tests.training import jobs

WANTED = jobs.PARAMS.preprocess


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jobs.make(tmp_path_factory.mktemp("job") / "project")


@pytest.fixture
def project(job: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(job, tmp_path / "project"))


def test_what_is_written_is_what_is_read(project: Path) -> None:
    folder = project / paths.SLICES
    assert slice_arrays.load_preprocessing(folder) == WANTED
    slice_arrays.verify(WANTED, folder=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": 96}, "made with preprocess.pixels = 32, but params.yaml says 96; run dvc repro"),
        (
            {"ct_window": {"level": 40, "width": 3000}},
            "made with preprocess.ct_window.width = 80.0, but params.yaml says 3000.0; run dvc repro",
        ),
    ],
)
def test_other_params_are_refused(project: Path, change: dict[str, object], message: str) -> None:
    wanted = WANTED.model_validate(WANTED.model_dump() | change)
    with pytest.raises(UserError) as error:
        slice_arrays.verify(wanted, folder=project / paths.SLICES)
    assert str(error.value) == f"{project / paths.SLICES}: {message}"


@pytest.mark.parametrize(
    ("array", "found"),
    [(np.zeros((3, 64, 64), np.uint16), "64×64 pixels of uint16"), (np.zeros((3, 32, 32), np.uint8), "32×32 pixels of uint8")],
)
def test_other_shape_or_depth_is_refused(project: Path, array: np.ndarray, found: str) -> None:
    np.save(project / paths.slices("val", "mr"), array)
    with pytest.raises(UserError, match=f"val_mr.npy: {found}, expected 32×32 of uint16"):
        slice_arrays.verify(WANTED, folder=project / paths.SLICES)


def test_missing_and_damaged_records_are_one_line(project: Path) -> None:
    file = project / paths.PREPROCESSING
    file.write_text("{")
    with pytest.raises(UserError, match=r"preprocessing\.json: damaged"):
        slice_arrays.load_preprocessing(project / paths.SLICES)
    file.unlink()
    with pytest.raises(UserError, match=r"preprocessing\.json: not found"):
        slice_arrays.load_preprocessing(project / paths.SLICES)


def test_an_array_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    file = slice_arrays.create(tmp_path, "train_ct.npy", (2, 8, 8), slice_arrays.STORED)
    whole = file.read_bytes()
    for cut in (0, 20, 200):
        file.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"train_ct\.npy: cut off or damaged; bring it back with dvc checkout"):
            slice_arrays.load_array("train", "ct", tmp_path)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_stages_refuse_in_one_line(project: Path, stage: str) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["preprocess"]["ct_window"] = {"level": 500.0, "width": 3000.0}
    (project / "params.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", f"stages.{stage}"]
    ended = subprocess.run(command, cwd=project, env=jobs.environment(project), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: data/slices: made with preprocess.ct_window.level = 40.0, but params.yaml says 500.0; run dvc repro\n"
    assert not (project / "models").exists()
