"""report.html: one file that a clinician can read, the same bytes for the same scores."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from pipeline import paths
from pipeline.domain import SCORES, Direction, Interval
from pipeline.evaluation.baselines import LABELS as BASELINES
from pipeline.evaluation.gallery import FULL_COLOUR
from pipeline.evaluation.results import COMPARED, score_cell, score_label
from pipeline.evaluation.volume_pairs import ERROR
from pipeline.evaluation.volume_pairs import LABELS as VOLUME_BASELINES
from pipeline.evaluation.volume_scores import VOLUME_SCORES
from pipeline.sources import provenance

LEVELS = {"low": "Low (skull base, face)", "middle": "Middle", "top": "Top (near the vertex)"}
LESIONS = {"bleed": "Bleed", "infarct": "Infarct", "tumour": "Tumour with oedema", "hole": "Resection hole"}


Gallery = list[tuple[str, NDArray[np.uint8]]]  # lines of pictures, RGB, each with its caption


def render(metrics: Mapping[str, Any], galleries: Mapping[Direction, Gallery], data: str | None = None) -> str:
    """The page of `metrics` (as in metrics.json) with a gallery a direction. `data` names slices other than the graph's."""
    source = provenance.read() if data is None else None
    template = Environment(
        loader=PackageLoader("pipeline.evaluation", "."), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
    ).get_template("report_page.html")
    curves = paths.TRAIN_REPORT / "curves.png"
    return template.render(
        data=data or (source.title if source else "unknown source"),
        simulated=source is not None and source.simulated,
        compared=[score_label(name) for name in COMPARED],
        directions=[_direction(Direction(name), metrics, galleries) for name in metrics["test"]],
        volumes=[_volumes(Direction(name), scores) for name, scores in metrics.get("volumes", {}).items()],
        lesions=_lesions(metrics["lesions"]),
        lesion_kinds=list(LESIONS.values()),
        full_colour=FULL_COLOUR,
        curves=_inline(curves.read_bytes()) if curves.is_file() else None,
    )


def _direction(direction: Direction, metrics: Mapping[str, Any], galleries: Mapping[Direction, Gallery]) -> dict[str, Any]:
    test = metrics["test"][direction]
    parts = [(f"MR contrast {name.upper()}", scores) for name, scores in metrics["per_contrast"][direction].items()]
    parts += [(LEVELS[name], scores) for name, scores in metrics["per_level"][direction].items() if "mae" in scores]
    undefined = metrics["undefined"].get(direction, {}).get("model", {})
    return {
        "title": direction.arrow,
        "slices": test["slices"],
        "groups": test["groups"],
        "with_truth": test["with_truth"],
        "methods": _methods(direction, metrics) if "mae" in test else [],
        "box": metrics["box"]["pixels"] if "box" in metrics["baselines"] else None,
        "parts": [{"name": name, "slices": scores["slices"], "cells": _cells(scores)} for name, scores in parts],
        "others": [
            {"name": score.label, "cell": _other(test, name), "reading": _reading(name)}
            for name, score in SCORES.items()
            if name in test and name not in COMPARED
        ],
        "undefined": ", ".join(f"{SCORES[name].label} ({count})" for name, count in undefined.items()),
        "examples": [(caption, _inline(_as_png(line))) for caption, line in galleries.get(direction, [])],
        "third": "truth" if "mae" in test else "there and back",
    }


def _methods(direction: Direction, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [{"name": "This model", "model": True, "cells": _cells(metrics["test"][direction]), "verdict": ""}]
    for method, label in BASELINES.items():
        if method not in metrics["baselines"]:  # nothing to learn it from, or no model in the box that could be compared
            continue
        verdict = metrics["difference"][method][direction].get("mae_verdict", "–")
        rows.append({"name": label, "model": False, "cells": _cells(metrics["baselines"][method][direction]), "verdict": verdict})
    return rows


def _lesions(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a direction: how many lesions, mean contrast, how many survive, contrast of each kind."""
    return [
        {
            "title": Direction(name).arrow,
            "count": scores["lesions"],
            "surviving": round(scores["survival"] * scores["lesions"]),
            "contrast": str(Interval.from_scores(scores, "contrast")),
            "kinds": [f"{scores['by_kind'][kind]:.2f}" if kind in scores["by_kind"] else "–" for kind in LESIONS],
        }
        for name, scores in metrics.items()
        if "contrast" in scores
    ]


def _volumes(direction: Direction, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of whole volumes: a row a score, the model beside trivial methods."""
    names = [name for name in VOLUME_BASELINES if name in scores["baselines"]]
    methods = [scores["test"], *(scores["baselines"][name] for name in names)]
    verdicts = [scores["difference"].get(name, {}).get(f"{ERROR}_verdict", "–") for name in names]
    return {
        "title": direction.arrow,
        "pairs": scores["test"]["pairs"],
        "groups": scores["test"]["groups"],
        "methods": ["This model", *(VOLUME_BASELINES[name] for name in names)],
        "rows": [{"name": score_label(name), "cells": [score_cell(method, name) for method in methods]} for name in VOLUME_SCORES],
        "verdicts": verdicts,
        "warnings": [f"{pair}: {warning}" for pair, warning in scores["warnings"].items()],
    }


def _reading(name: str) -> str:
    score = SCORES[name]
    better = f"{'lower' if score.lower_is_better else 'higher'} is better"
    return f"{score.reading}; {better}" if score.reading else better


def _other(scores: Mapping[str, float], name: str) -> str:
    """A score with its interval; a texture distance with that of the untranslated input instead."""
    if f"copy_{name}" in scores:
        return f"{scores[name]:.2f} (untranslated: {scores[f'copy_{name}']:.2f})"
    return score_cell(scores, name)


def _cells(scores: Mapping[str, float]) -> list[str]:
    return [score_cell(scores, name) for name in COMPARED]


def _as_png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
