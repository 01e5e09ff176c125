"""What a user does to the folder that slices come from, `dvc repro` sees."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import look
from tests.graph.projects import Project, copy_project

PROJECT = Path(__file__).parents[2]
PARAMS = ("data.source=folder", "data.folder=../run #2/slices")


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64), dtype=np.uint8)).save(file)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("look")
    for seed in range(3):
        picture(folder / f"run #2/slices/ct/{seed}.png", seed)
        picture(folder / f"run #2/slices/mr/{seed}.png", 10 + seed)
    made = copy_project(folder, "smoke", *PARAMS)
    assert "Running stage 'download'" in made.repro("download")
    return made


def downloads(project: Project) -> bool:
    """Whether `dvc repro` runs download, or brings back what it once made of the same content; else it skips it."""
    printed = project.repro("download")
    assert "Running stage 'look'" in printed
    return "Stage 'download' didn't change, skipping" not in printed


def held(project: Project) -> set[str]:
    return {file.name for file in (project.folder / "data/raw/ct").rglob("*.png")}


def test_nothing_new_runs_nothing_and_changes_nothing(project: Project) -> None:
    before = (project.folder / "dvc.lock").read_bytes()
    assert not downloads(project)
    assert (project.folder / "dvc.lock").read_bytes() == before


def test_new_changed_and_withdrawn_files_are_seen(project: Project) -> None:
    slices = project.folder.parent / "run #2/slices"
    picture(slices / "ct/new.png", 100)
    assert downloads(project)
    assert "new.png" in held(project)
    state = (slices / "ct/new.png").stat()
    picture(slices / "ct/new.png", 101)
    os.utime(slices / "ct/new.png", ns=(state.st_atime_ns, state.st_mtime_ns))  # as rsync -t and cp -p do
    assert downloads(project)
    (slices / "ct/new.png").unlink()
    assert downloads(project)
    assert "new.png" not in held(project)
    assert not downloads(project)


def test_a_folder_copied_to_another_disk_is_the_same_folder(project: Project) -> None:
    slices = project.folder.parent / "run #2/slices"
    shutil.copytree(slices, slices.with_name("copy"))
    shutil.rmtree(slices)
    slices.with_name("copy").rename(slices)
    assert not downloads(project)


def test_a_folder_out_of_reach_is_said_and_the_data_stays(project: Project) -> None:
    slices = project.folder.parent / "run #2/slices"
    away = slices.rename(slices.with_name("away"))
    try:
        printed = project.repro("download")
        assert "not found; going on with the data that was downloaded" in printed
        assert "Running stage 'download'" not in printed
        assert len(held(project)) == 3
    finally:
        away.rename(slices)


def test_names_of_files_are_not_kept(project: Project) -> None:
    slices = project.folder.parent / "run #2/slices"
    picture(slices / "ct/DOE_JOHN.png", 200)
    project.repro("look")
    kept = [file.read_text() for file in (project.folder / ".dvc/tmp/look").iterdir()]
    assert kept
    assert not any("DOE" in text for text in kept)


@pytest.mark.parametrize("left", ["", "half.tmp"])
def test_half_of_an_entry_in_the_run_cache_stops_nothing(project: Project, left: str) -> None:
    runs = project.folder / ".dvc/cache/runs"
    entries = [entry for entry in runs.glob("??/*") if any("stages.download" in file.read_text() for file in entry.iterdir())]
    for entry in entries:
        for file in entry.iterdir():
            file.rename(entry / left) if left else file.unlink()
    shutil.rmtree(project.folder / "data/raw")
    (project.folder / "dvc.lock").unlink()
    assert entries
    assert downloads(project)
    assert held(project)


@pytest.mark.parametrize(
    ("before", "after"), [("data:", "data: ["), ("data:", "date:"), ("  folder:", "  mappe:"), ("data:", "data: []\nx:")]
)
def test_params_that_cannot_be_read_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], before: str, after: str
) -> None:
    """By hand: `dvc repro` looks at them before the stage does."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((PROJECT / "params.yaml").read_text().replace(before, after, 1))
    with pytest.raises(SystemExit, match="2"):
        look.main()
    said = capsys.readouterr().err
    assert said.startswith("error: params.yaml: data.source, data.folder and data.url cannot be read (")
    assert said.count("\n") == 1
