"""What report.html says is what metrics.json and the table hold."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline import paths
from pipeline.domain import DIRECTIONS, HEADLINE_SCORES, Direction
from pipeline.evaluation import report
from pipeline.evaluation.gallery import Example, choose_examples
from tests.evaluation import projects
from tests.evaluation.test_edge_cases import heads


def test_the_page_shows_the_figures_and_names_best_median_and_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(5), window=80.0))
    report.evaluate(projects.PARAMS)
    figures, page = json.loads(paths.METRICS_JSON.read_text()), paths.REPORT_HTML.read_text()
    headlines = json.loads(paths.SCORES_JSON.read_text())
    rows = pd.read_parquet(paths.PER_SLICE)
    for direction in DIRECTIONS:
        model = rows[(rows["method"] == "model") & (rows["direction"] == direction)].sort_values("mae")
        ranked = list(zip(model["slice_id"], model["mae"], strict=True))
        for label, (name, error) in zip(("best", "median", "worst"), (ranked[0], ranked[2], ranked[4]), strict=True):
            assert f"{label}: {name}, error {error:.3f}" in page
        assert set(headlines[direction]) <= set(HEADLINE_SCORES)
        assert headlines[direction]["mae"] == figures["test"][direction]["mae"]
        for name in ("mae", "gradient_correlation", "whole_ms_ssim", "uncertainty_correlation"):
            assert f"{figures['test'][direction][name]:.3f} [" in page, name
        assert sum(level["slices"] for level in figures["per_level"][direction].values()) == 5
    assert f"{figures['test']['mr_to_ct']['skull_dice']:.3f} [" in page
    assert f"{figures['test']['mr_to_ct']['mae_hu']:.1f} [" in page
    assert f"{figures['lesions']['ct_to_mr']['contrast']:.3f} [" in page
    assert "Limits of use" in page


def test_the_model_in_the_box_stands_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = projects.make_project(tmp_path / "other", heads(2, size=96)) / "models"
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(5), window=80.0))
    with_box = report.evaluate(projects.PARAMS, box=box)
    rows = with_box.rows[with_box.rows["method"] == "box"]
    assert rows["direction"].value_counts().to_dict() == {"ct_to_mr": 5, "mr_to_ct": 5}
    for direction in DIRECTIONS:
        there = with_box.metrics["baselines"]["box"][direction]["mae"]
        difference = with_box.metrics["difference"]["box"][direction]["mae"]
        assert difference == pytest.approx(with_box.metrics["test"][direction]["mae"] - there, abs=1e-6)
        assert f"{there:.3f} [" in paths.REPORT_HTML.read_text()
    assert "It works at 96 pixels a side" in " ".join(paths.REPORT_HTML.read_text().split())
    same = report.evaluate(projects.PARAMS, box=paths.MODELS)  # the box itself is not its own rival
    assert "box" not in same.metrics["baselines"]
    assert "pixels a side" not in paths.REPORT_HTML.read_text()


def test_a_box_for_slices_of_another_window_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    box = projects.make_project(tmp_path / "other", heads(2)) / "models"
    facts = json.loads((box / "model.json").read_text())
    facts["preprocess"]["ct_window"]["width"] = 400.0
    (box / "model.json").write_text(json.dumps(facts))
    monkeypatch.chdir(projects.make_project(tmp_path / "project", heads(3), window=80.0))
    assert "box" not in report.evaluate(projects.PARAMS, box=box).metrics["baselines"]
    assert "the model in the box is not compared: it was trained on slices prepared with another ct_window" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "expected"), [(1, ["best", "median", "worst"]), (5, ["best", "median", "worst no. 3", "worst no. 2", "worst"])]
)
def test_the_gallery_is_as_long_as_asked(count: int, expected: list[str]) -> None:
    rows = pd.DataFrame({"direction": "ct_to_mr", "method": "model", "slice_id": list("abcdefgh"), "mae": [n / 10 for n in range(8)]})
    assert [example.caption.split(":")[0] for example in choose_examples(rows, Direction.CT_TO_MR, count)] == expected


def test_a_gallery_of_one_slice() -> None:
    rows = pd.DataFrame({"direction": ["ct_to_mr"], "method": ["model"], "slice_id": ["a"], "mae": [0.1]})
    assert choose_examples(rows, Direction.CT_TO_MR, 6) == [Example("a", "worst: a, error 0.100")]
