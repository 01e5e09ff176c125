"""The source `phantom`: which files it writes, and that their bytes depend on the parameters alone."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import params
from pipeline.sources import phantom
from pipeline.sources.provenance import digest


def settings(seed: int = 1) -> params.Data:
    data = params.load(Path(__file__).parents[2] / "params.yaml").data
    small = data.phantom.model_copy(update={"subjects": 3, "test_subjects": 2, "slices": 2, "pixels": 128, "seed": seed})
    return data.model_copy(update={"phantom": small, "mr_contrast": "any"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom.fetch(settings(), folder, workers=1)
    return folder


def subjects(folder: Path) -> set[str]:
    return {re.match(r"(\w+)_\d+$", file.stem)[1] for file in folder.glob("*.png")}  # type: ignore[index]


def test_training_subjects_give_one_modality(written: Path) -> None:
    ct, mr = subjects(written / "ct/train"), subjects(written / "mr/train")
    assert len(ct) == len(mr) == 3
    assert not ct & mr


def test_test_subjects_give_registered_pairs(written: Path) -> None:
    with (written / "pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2
    for row in rows:
        ct, mr = (np.asarray(Image.open(written / row[modality])) for modality in ("ct", "mr"))
        assert ct.shape == mr.shape == (128, 128)
        assert ct.dtype == mr.dtype == np.uint8
        assert row["contrast"] in ("t1", "t2", "flair", "pd")
        assert row["group"] in Path(row["ct"]).name
    assert {row["ct"] for row in rows} == {f"ct/test/{file.name}" for file in (written / "ct/test").iterdir()}


def test_bytes_depend_on_the_parameters_only(written: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    phantom.fetch(settings(), tmp_path / "again", workers=2)
    (tmp_path / "other").mkdir()
    phantom.fetch(settings(seed=2), tmp_path / "other", workers=1)
    assert digest(written) == digest(tmp_path / "again") != digest(tmp_path / "other")


def test_ct_files_look_like_the_real_ones(written: Path) -> None:
    pictures = [np.asarray(Image.open(file)) for file in (written / "ct/train").iterdir()]
    assert all((picture >= 250).mean() > 0.02 for picture in pictures), "bone saturates"
    assert all(np.percentile(picture, 25) <= 4 for picture in pictures), "air and fat are black"
