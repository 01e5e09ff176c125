"""The model in the box: its card says what was measured of these very weights, and it does what the card says."""

import json
from pathlib import Path

import pytest

from benchmarks import box_card, box_scores
from pipeline import params, paths
from pipeline.domain import DIRECTIONS
from pipeline.evaluation.other_model import check_comparable
from pipeline.models.folder import load_preprocess
from pipeline.serving.translator import Translator

needs_weights = pytest.mark.skipif(not paths.has_box(), reason="this checkout has no weights in pipeline/box")


def read(name: str) -> dict:
    return json.loads((paths.BOX / name).read_text(encoding="utf-8"))


@needs_weights
def test_a_report_can_show_it_beside_models_of_the_committed_params() -> None:
    check_comparable(params.load(paths.PARAMS).preprocess, load_preprocess(paths.BOX))


@needs_weights
def test_card_scores_params_and_weights_belong_together() -> None:
    model, scores = read("model.json"), read("scores.json")
    assert scores["weights"] == {name: entry["sha256"] for name, entry in model["directions"].items()}
    assert (paths.BOX / "MODEL_CARD.md").read_text(encoding="utf-8") == box_card.write_card(paths.BOX)
    written = params.read_yaml(paths.BOX / "params.yaml")
    assert {name: written[name] for name in ("model", "preprocess")} == {name: model[name] for name in ("model", "preprocess")}
    assert len(read("origin.json")["commit"]) == 40
    assert sum(file.stat().st_size for file in paths.BOX.iterdir()) < 10e6


@needs_weights
def test_it_is_better_than_water() -> None:
    errors = {name: scores["all"] for name, scores in box_scores.score_simulated(paths.BOX, heads=1, planes=60.0).items()}
    assert errors["model"] < errors["mean_picture"]
    assert errors["model"] < errors["all_water"]
    assert all(Translator.from_box(direction).conditional is (direction == "ct_to_mr") for direction in DIRECTIONS)


def test_the_card_has_every_figure(tmp_path: Path) -> None:
    methods = ("model", "mean_picture", "all_water", "water_and_bone")
    simulated = {
        name: {"all": 100.4 + n, "all_low": 90.2, "all_high": 110.6, "bone_dice": 0.5, "heads": 3} for n, name in enumerate(methods)
    }
    real = {"mae": 0.1234, "mae_low": 0.1, "mae_high": 0.15, "correlation": 0.61, "ssim": 0.5, "slices": 54, "patients": 3}
    spread = {f"{name}{end}": value for name in box_scores.ON_PAIRS for end, value in (("", 0.2), ("_least", 0.1), ("_most", 0.3))}
    real["beside"] = {"model": spread | {"mae": 0.1234}, "mean": spread}
    scores = {
        "weights": {},
        "pairs": {side: {direction.value: real for direction in DIRECTIONS} for side in ("128", "64")},
        "simulated": simulated,
        "sequences": dict.fromkeys((*box_scores.KNOWN, box_scores.FREE, box_scores.UNSEEN), simulated["model"]),
    }
    origin = {"commit": "c0ffee", "changed": True, "steps": 10, "planned_steps": 30, "torch": "9.9", "cpu": "AVX9"}
    entries = {direction.value: {"sha256": f"digest of {direction}"} for direction in DIRECTIONS}
    sections = {"model": params.Model().model_dump(), "preprocess": params.Preprocess(pixels=128).model_dump(mode="json")}
    for name, content in {"scores": scores, "origin": origin, "model": {**sections, "directions": entries}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    card = " ".join(box_card.write_card(tmp_path).split())
    assert "| 128 | CT → MR | 0.123 [0.100, 0.150] | 0.610 | 0.500 |" in card
    assert "| 64, averaged from 128 | MR → CT |" in card
    assert (
        "| CT → MR | mean absolute error | correlation | SSIM | | --- | --- | --- | --- | | **this model** | 0.123 (0.100 to 0.300) |"
        in card
    )
    assert "| mean picture of the target's training slices | 0.200 (0.100 to 0.300) |" in card
    assert "| all | 100 [90, 111] | 101 [90, 111] | 102 [90, 111] | 103 [90, 111] |" in card
    assert "| tissue | this model | mean picture of the training CT | all water |" in card
    assert "| T1, MPRAGE | 100 [90, 111] | – | – | – | 0.50 |" in card
    assert "128 × 128 pixels, 2 mm each" in card
    assert "commit `c0ffee`, with changes: 10 of 30 steps" in card
