"""An evaluation in MLflow: charts, pictures and files in the run of the training that it judges."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.domain import HEADLINE_SCORES
from pipeline.tracking import store
from pipeline.tracking.runs import attach

VOLUME_SCORES = ("volume_mae_hu", "volume_ms_ssim", "bone_dice")  # of whole volumes, those that are charts


def log_evaluation(figures: Mapping[str, Any], folder: Path) -> None:
    """Put an evaluation into the run of its training: `figures` (what metrics.json holds) as charts, pictures and all of `folder`.

    Raises UserError when the store cannot be used.
    """
    import numpy as np
    from mlflow.entities import Metric
    from PIL import Image

    run = attach()
    now = int(time.time() * 1000)
    with store.errors(run.uri):
        client = store.client(run.uri)
        client.log_batch(run.id, [Metric(key, float(value), now, 0) for key, value in chart_names(figures).items()])
        for direction in figures["test"]:
            file = folder / f"{direction}.png"
            if file.is_file():
                client.log_image(run.id, np.asarray(Image.open(file)), key=f"test_{direction}")
        client.log_artifacts(run.id, str(folder), "evaluate")
        client.set_terminated(run.id)


def chart_names(figures: Mapping[str, Any]) -> dict[str, float]:
    """The scores that MLflow charts. What differs comes first, since the UI cuts names: `mae/ct_to_mr`, `interval/mae_low_ct_to_mr`.

    Every metric is a chart of its own: all 44 scores of a direction would bury those that one compares runs by. What stands before the
    last slash is a section, so that all intervals fold away together.
    """
    charts: dict[str, float] = {}
    for direction, scores in figures["test"].items():
        for name in HEADLINE_SCORES:
            if name in scores:
                charts[f"{name}/{direction}"] = scores[name]
            ends = [f"{name}_{end}" for end in ("low", "high") if f"{name}_{end}" in scores]
            charts |= {f"interval/{end}_{direction}": scores[end] for end in ends}
        lesion = figures.get("lesions", {}).get(direction, {})
        charts |= {f"lesion_{name}/{direction}": lesion[name] for name in ("contrast", "survival") if name in lesion}
    for direction, volumes in figures.get("volumes", {}).items():
        charts |= {f"{name}/{direction}": volumes["test"][name] for name in VOLUME_SCORES if name in volumes["test"]}
    return {key: value for key, value in charts.items() if value is not None}
