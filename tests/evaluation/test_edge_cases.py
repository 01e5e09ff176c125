"""Odd test slices through the whole evaluation: every score a number or left out and counted, or one clear line; never a silent NaN."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from pipeline import paths
from pipeline.domain import DIRECTIONS, MODALITIES, Modality
from pipeline.errors import UserError
from pipeline.evaluation import report
from tests.evaluation import projects
from tests.training import jobs

Pictures = dict[Modality, NDArray[np.uint8]]


def heads(count: int = 4, size: int = 32) -> Pictures:
    """A bright disc with noise in it, another in each slice and modality."""
    random, (down, right) = np.random.default_rng(0), np.mgrid[:size, :size] - size / 2
    disc = np.hypot(down, right) < size / 3
    return {name: np.uint8(disc * random.integers(40, 255, (count, size, size))) for name in MODALITIES}


def evaluate(folder: Path, images: Pictures, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    """metrics.json and the table of a project with these test slices. Neither holds a NaN."""
    monkeypatch.chdir(projects.make_project(folder / "project", images, **options))
    report.evaluate(projects.PARAMS)
    numbers = json.loads(paths.METRICS_JSON.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in metrics.json"))
    table = pq.read_table(paths.PER_SLICE)
    for column in table.column_names:
        values = [value for value in table[column].to_pylist() if isinstance(value, float)]
        assert all(map(math.isfinite, values)), column
    assert "nan" not in paths.REPORT_HTML.read_text().split("data:image")[0].lower()
    return numbers, table.to_pandas()


def test_ordinary_slices_leave_little_undefined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, rows = evaluate(tmp_path, heads(), monkeypatch)
    assert set(rows["method"]) == {"model", "copy", "histogram", "mean", "black"}
    for direction in DIRECTIONS:
        assert "correlation" not in figures["undefined"].get(direction, {}).get("model", {})
        assert 0 < figures["test"][direction]["mae"] < 1


def test_constant_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {name: np.full((4, 32, 32), 128, np.uint8) for name in MODALITIES}
    figures, rows = evaluate(tmp_path, flat, monkeypatch)
    for direction in DIRECTIONS:
        assert figures["undefined"][direction]["model"]["correlation"] == 4
        assert figures["baselines"]["copy"][direction]["mae"] == pytest.approx(0, abs=1e-4)
        assert "correlation" not in figures["test"][direction]
    assert rows["correlation"].isna().all() if "correlation" in rows else True


def test_one_flat_slice_among_others_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = heads()
    images[Modality.MR][1] = 100
    figures, _ = evaluate(tmp_path, images, monkeypatch)
    assert figures["undefined"]["ct_to_mr"]["model"]["correlation"] == 1
    assert math.isfinite(figures["test"]["ct_to_mr"]["correlation"])


def test_one_group_has_no_interval_and_is_too_few_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, _ = evaluate(tmp_path, heads(1), monkeypatch)
    test = figures["test"]["mr_to_ct"]
    assert test["groups"] == 1
    assert not [name for name in test if name.endswith(("_low", "_high"))]
    assert "spread" not in test
    assert "texture_frechet" not in test
    assert figures["difference"]["copy"]["mr_to_ct"]["mae_verdict"] == "too few patients to tell"


def test_no_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, rows = evaluate(tmp_path, heads(), monkeypatch, pairs=0)
    assert set(rows["method"]) == {"model"}
    assert "mae" not in figures["test"]["ct_to_mr"]
    assert 0 < figures["test"]["ct_to_mr"]["cycle_mae"] < 1
    assert "No registered pairs here" in paths.REPORT_HTML.read_text()


def test_some_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows = evaluate(tmp_path, heads(), monkeypatch, pairs=1)
    assert rows[rows["method"] == "model"].groupby("direction")["mae"].count().tolist() == [1, 1]
    assert rows[rows["method"] == "model"].groupby("direction")["cycle_mae"].count().tolist() == [4, 4]


def test_error_in_hounsfield_units_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = heads()
    figures, rows = evaluate(tmp_path, images, monkeypatch, window=80.0)
    black = rows[(rows["method"] == "black") & (rows["direction"] == "mr_to_ct")]
    ct = images[Modality.CT] / 255
    expected = [80 * slice_[slice_ + mr / 255 > 0.1].mean() for slice_, mr in zip(ct, images[Modality.MR], strict=True)]
    assert black["mae_hu"].tolist() == pytest.approx(expected, rel=1e-3)
    assert figures["test"]["mr_to_ct"]["mae_hu"] == pytest.approx(80 * figures["test"]["mr_to_ct"]["mae"])
    assert "mae_hu" not in figures["test"]["ct_to_mr"]


def test_no_hounsfield_units_where_the_file_did_not_know_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, _ = evaluate(tmp_path, heads(), monkeypatch)
    assert "mae_hu" not in figures["test"]["mr_to_ct"]


def test_training_slices_of_another_size_make_a_baseline_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `ctmr evaluate --model` has them: models of another size than the project's slices."""
    folder = projects.make_project(tmp_path / "project", heads())
    for modality in MODALITIES:
        np.save(folder / paths.slices("train", modality), heads(3, 64)[modality])
    monkeypatch.chdir(folder)
    assert 0 < report.evaluate(projects.PARAMS).metrics["baselines"]["mean"]["ct_to_mr"]["mae"] < 0.5


def test_black_slices_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black = {name: np.zeros((2, 32, 32), np.uint8) for name in MODALITIES}
    with pytest.raises(UserError, match=r"no test slice has a pixel brighter than 0\.1"):
        evaluate(tmp_path, black, monkeypatch)


def test_truth_of_another_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = projects.make_project(tmp_path / "project", heads())
    np.save(folder / paths.slices("truth", "mr"), heads(4, 16)[Modality.MR])
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=r"truth_mr\.npy does not fit test_ct\.npy: 4 of 16×16 for slices of 32×32"):
        report.evaluate(projects.PARAMS)
    assert not paths.EVALUATE_REPORT.exists()


def test_a_network_that_gives_nan_is_one_line(tmp_path: Path) -> None:
    folder = projects.make_project(tmp_path / "project", heads())
    file = folder / paths.weights("mr_to_ct")
    save_file({name: np.full_like(value, np.nan) for name, value in load_file(file).items()}, file)
    ended = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"], cwd=folder, env=jobs.environment(folder), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: models: translations ct_to_mr or back hold NaN")
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (folder / paths.EVALUATE_REPORT).exists()
