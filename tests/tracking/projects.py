"""Folders as the graph leaves them before the register stage: tiny generators, scores, and room for an MLflow store of their own."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline import params, paths
from pipeline.domain import DIRECTIONS
from pipeline.models.generator import build_generator, save_weights
from tests.tracking.stores import make_store

SOURCE = Path(__file__).parents[2]


def make(folder: Path, seed: int = 0, metrics: Mapping[str, Any] | None = None, *, with_store: bool = False) -> Path:
    """A project in `folder`: params.yaml with the smoke preset's networks, presets, models of random weights drawn with `seed`, scores.

    `with_store`: with an empty MLflow store in it, which the first use would take seconds to make.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load((SOURCE / paths.PARAMS).read_text())
    for section, changes in yaml.safe_load((SOURCE / "presets/smoke.yaml").read_text()).items():
        content[section] = _merged(content[section], changes)
    content["preprocess"]["pixels"] = 64
    (folder / paths.PARAMS).write_text(yaml.safe_dump(content))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(SOURCE / paths.PRESETS, folder / paths.PRESETS, dirs_exist_ok=True)
    make_models(folder / paths.MODELS, seed)
    write_metrics(folder, metrics or good())
    if with_store:
        make_store(folder)
    return folder


def make_models(folder: Path, seed: int) -> None:
    """models/ as training leaves it, with random weights, and a run that no store knows."""
    of = params.load(folder.parent / paths.PARAMS)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    directions = {}
    for direction in DIRECTIONS:
        file = folder / paths.weights(direction).name
        save_weights(file, build_generator(of.model, direction))
        directions[direction] = {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    model = {"model": of.model.model_dump(), "preprocess": of.preprocess.model_dump(), "directions": directions}
    (folder / paths.MODEL_JSON.name).write_text(json.dumps(model | {"contrasts": ["t1", "t2", "flair", "pd"]}))
    (folder / paths.RUN_JSON.name).write_text(json.dumps({"run_id": hashlib.md5(str(seed).encode()).hexdigest(), "name": f"seed {seed}"}))


def good() -> dict[str, Any]:
    """Scores that pass every floor, in both directions."""
    return both({"mae": 0.10, "mae_low": 0.09, "mae_high": 0.11, "ssim": 0.7, "cycle_mae": 0.05, "cycle_ssim": 0.9, "spread": 0.8})


def bad() -> dict[str, Any]:
    """Scores no better than those of a copied input."""
    return both({"mae": 0.30, "mae_low": 0.27, "mae_high": 0.33, "ssim": 0.3, "cycle_mae": 0.02, "cycle_ssim": 0.9, "spread": 0.01})


def both(scores: Mapping[str, float]) -> dict[str, Any]:
    """`scores` as metrics.json holds them for either direction, with those of the baselines beside them."""
    baseline = {"mae": 0.30, "mae_low": 0.28, "mae_high": 0.32}
    difference = scores["mae"] - baseline["mae"]
    verdict = "better" if difference < -0.05 else "no difference shown"
    paired = {"mae": difference, "mae_low": difference - 0.02, "mae_high": difference + 0.02, "mae_verdict": verdict}
    methods = ("copy", "histogram", "mean")
    return {
        "test": {direction: dict(scores) for direction in DIRECTIONS},
        "baselines": {method: {direction: dict(baseline) for direction in DIRECTIONS} for method in methods},
        "difference": {method: {direction: dict(paired) for direction in DIRECTIONS} for method in methods},
    }


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    file = folder / paths.METRICS_JSON
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(metrics))


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}
