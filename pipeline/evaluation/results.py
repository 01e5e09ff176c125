"""From rows to figures: what metrics.json holds. Means over groups with intervals, and comparisons with the baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.domain import HEAD_BRIGHTNESS, SCORES, Direction, Interval, error_score
from pipeline.errors import UserError
from pipeline.evaluation.brain_window import LEVELS
from pipeline.evaluation.intervals import compare, mean_interval
from pipeline.evaluation.scoring import MODEL, DirectionScores

COMPARED = ("mae", "psnr", "ssim", "correlation")  # scores against truth in which model and baselines are laid side by side


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation gives back: `metrics` as in metrics.json, a row a slice and method, and the folder that it wrote."""

    metrics: dict[str, Any]
    rows: pd.DataFrame
    folder: Path

    def error(self, direction: Direction) -> tuple[str, Interval]:
        """Name and value of the score that `direction` is judged by: against truth where there is some."""
        scores = self.metrics["test"][direction]
        name = error_score(scores)
        return name, Interval.from_scores(scores, name)


def summarise(rows: pd.DataFrame) -> dict[str, float]:
    """Mean of every score over groups, with `_low` and `_high` of its 95 % interval where it has one; only scores that some slice has."""
    scores: dict[str, float] = {}
    for name in [column for column in rows.columns if rows[column].dtype == np.float64]:
        interval = mean_interval(rows[name].to_numpy(), rows["group"].tolist())
        if interval is not None:
            scores |= interval.as_scores(name)
    return scores


def to_metrics(results: list[DirectionScores], rows: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json holds but the lesions: scores of model and baselines, comparisons, the model's by contrast and level.

    Raises UserError where no test slice shows a head.
    """
    names = ("test", "baselines", "per_contrast", "per_level", "difference", "undefined")
    metrics: dict[str, Any] = {name: {} for name in names}
    comparisons = max(1, sum(len(_baselines(rows, result.direction)) for result in results))
    for result in results:
        direction = result.direction.value
        model = _of_method(rows, result.direction, MODEL)
        scores = summarise(model)
        if not {"mae", "cycle_mae"} & set(scores):
            raise UserError(f"{direction}: no test slice has a pixel brighter than {HEAD_BRIGHTNESS}, so there is nothing to score")
        counts = {"slices": len(model), "groups": int(model["group"].nunique()), "with_truth": _count_scored(model, "mae")}
        metrics["test"][direction] = scores | result.overall | counts
        if undefined := _count_undefined(result):
            metrics["undefined"][direction] = undefined
        for section, column, values in (
            ("per_contrast", "contrast", sorted(set(model["contrast"]) - {""})),
            ("per_level", "level", [level for level in LEVELS if level in set(model["level"])]),
        ):
            parts = {value: model[model[column] == value] for value in values}
            error = error_score(scores)
            metrics[section][direction] = {value: summarise(part) | {"slices": _count_scored(part, error)} for value, part in parts.items()}
        for method in _baselines(rows, result.direction):
            baseline = _of_method(rows, result.direction, method)
            metrics["baselines"].setdefault(method, {})[direction] = summarise(baseline)
            metrics["difference"].setdefault(method, {})[direction] = differences(model, baseline, comparisons)
    return metrics


def _of_method(rows: pd.DataFrame, direction: Direction, method: str) -> pd.DataFrame:
    return rows[(rows["direction"] == direction.value) & (rows["method"] == method)]


def _baselines(rows: pd.DataFrame, direction: Direction) -> list[str]:
    return sorted(set(rows.loc[rows["direction"] == direction.value, "method"]) - {MODEL})


def _count_scored(rows: pd.DataFrame, name: str) -> int:
    """How many slices have the score `name`."""
    return int(rows[name].notna().sum()) if name in rows else 0


def _count_undefined(result: DirectionScores) -> dict[str, dict[str, int]]:
    """By method and score: slices where the score applies and is undefined."""
    counts: dict[str, dict[str, int]] = {}
    for method, name in sorted((row["method"], name) for row in result.rows for name, value in row.items() if value != value):
        by_score = counts.setdefault(method, {})
        by_score[name] = by_score.get(name, 0) + 1
    return counts


def differences(
    model: pd.DataFrame, baseline: pd.DataFrame, comparisons: int, key: str = "slice_id", scores: Sequence[str] = COMPARED
) -> dict[str, Any]:
    """Model minus baseline on what has the same `key`, score by score, with the verdict; `comparisons` verdicts are shown together."""
    both = model.merge(baseline, on=key, suffixes=("", "_baseline"))
    content: dict[str, Any] = {}
    for name in scores:
        values = (both[name] - both[f"{name}_baseline"]).to_numpy(np.float64)
        comparison = compare(values, both["group"].tolist(), lower_is_better=SCORES[name].lower_is_better, comparisons=comparisons)
        if comparison is not None:
            content |= comparison.difference.as_scores(name) | {f"{name}_verdict": comparison.verdict.value}
    return content


def score_label(score: str) -> str:
    """Its name for people, and which way is better."""
    return f"{SCORES[score].label} {'↓' if SCORES[score].lower_is_better else '↑'}"


def score_cell(scores: Mapping[str, Any], name: str) -> str:
    """The score `name` with its interval, for a table; a dash where there is none."""
    return str(Interval.from_scores(scores, name)) if name in scores else "–"
