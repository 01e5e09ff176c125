"""From models and test slices to reports/evaluate, and the same into the MLflow run."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline import params, paths
from pipeline.atomic import new_folder, write_json
from pipeline.evaluation import lesions, pictures, report, score, summary
from pipeline.evaluation.rows import MODEL
from pipeline.tracking.gate import HEADLINE
from pipeline.tracking.runs import attach


def evaluate(rules: params.Evaluate) -> dict[str, Any]:
    """Score both directions, write reports/evaluate and log it; gives what metrics.json holds."""
    figures = write(rules, paths.EVALUATE_REPORT)
    _log(figures)
    return figures


def write(
    rules: params.Evaluate, target: Path, slices: Path = paths.SLICES, models: Path = paths.MODELS, data: str | None = None
) -> dict[str, Any]:
    """Score `models` on the test slices in the store `slices` and write the folder `target`; `data` names slices other than the graph's."""
    scored = score.score(rules, slices, models)
    rows = summary.table(scored)
    figures = summary.figures(scored, rows, rules) | {"lesions": lesions.score(rules, models)}
    with new_folder(target) as folder:
        rows.to_parquet(folder / paths.PER_SLICE.name, index=False)
        write_json(folder / paths.METRICS_JSON.name, figures)
        drawn = {}
        for direction in paths.DIRECTIONS:
            chosen = pictures.examples(rows, direction, rules.examples)
            if chosen:
                file = folder / f"{direction}.png"
                pictures.write(pictures.draw(chosen, direction, rules, slices, models), file)
                drawn[direction] = (file, [caption for _, caption in chosen])
        _errors(rows).to_csv(folder / "errors.csv", index=False)
        report.write(folder / paths.REPORT_HTML.name, figures, drawn, data)
    return figures


def _errors(rows: Any) -> Any:
    """Model's errors slice by slice, from best to worst, for `dvc plots`."""
    model = rows[rows["method"] == MODEL]
    name = "mae" if "mae" in model and model["mae"].notna().any() else "cycle_mae"
    ranked = model.dropna(subset=[name]).sort_values(["direction", name, "slice_id"])
    ranked = ranked.assign(rank=ranked.groupby("direction").cumcount() + 1, error=ranked[name])
    return ranked[["direction", "rank", "error"]]


def curves(figures: dict[str, Any]) -> dict[str, float]:
    """The scores that MLflow charts, named so that their intervals are a section of their own there, which one can fold away.

    Every metric is a chart of its own: all 44 scores of a direction would bury those that one compares runs by.
    """
    found: dict[str, float] = {}
    for direction, scores in figures["test"].items():
        found |= {f"test/{direction}/{name}": scores[name] for name in HEADLINE if name in scores}
        bounds = [f"{name}_{end}" for name in HEADLINE for end in ("low", "high")]
        found |= {f"test/{direction}/interval/{name}": scores[name] for name in bounds if name in scores}
        lesion = figures["lesions"][direction]
        found |= {f"lesions/{direction}/{name}": lesion[name] for name in ("contrast", "kept") if name in lesion}
    return found


def _log(figures: dict[str, Any]) -> None:
    run = attach()
    run.log_metrics(curves(figures))
    for direction in figures["test"]:
        file = paths.EVALUATE_REPORT / f"{direction}.png"
        if file.is_file():
            run.log_image(np.asarray(Image.open(file)), key=f"test_{direction}")
    run.log_folder(paths.EVALUATE_REPORT, "evaluate")
    run.finish()
