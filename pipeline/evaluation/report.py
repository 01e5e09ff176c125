"""report.html: one file that a clinician can read, the same bytes for the same scores."""

import base64
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from pipeline import paths
from pipeline.evaluation.metrics import SCORES

NAMES = {
    "copy": "Copy the input",
    "histogram": "Input with the target's histogram",
    "mean": "Mean picture of the target's training slices",
    "black": "All black",
}
TITLES = {"ct_to_mr": "CT → MR", "mr_to_ct": "MR → CT"}


def write(file: Path, figures: dict[str, Any], pictures: dict[str, tuple[Path, list[str]]], data: str | None = None) -> None:
    """Render `figures` (metrics.json) with a picture and its captions for each direction. `data` names slices other than the graph's."""
    facts = json.loads(paths.SOURCE_JSON.read_text(encoding="utf-8")) if paths.SOURCE_JSON.is_file() and data is None else {}
    template = Environment(
        loader=PackageLoader("pipeline.evaluation", "."), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
    ).get_template("report.html")
    curves = paths.TRAIN_REPORT / "curves.png"
    page = template.render(
        data=data or facts.get("handle") or facts.get("source", "unknown source"),
        simulated=facts.get("source") == "phantom",
        directions=[_direction(name, figures, pictures) for name in figures["test"]],
        curves=_inlined(curves) if curves.is_file() else None,
    )
    file.write_text(page, encoding="utf-8")


def _direction(name: str, figures: dict[str, Any], pictures: dict[str, tuple[Path, list[str]]]) -> dict[str, Any]:
    test = figures["test"][name]
    methods = []
    if "mae" in test:
        methods = [{"name": "This model", "model": True, "cells": _cells(test), "verdict": ""}]
        for method, title in NAMES.items():
            verdict = figures["difference"][method][name].get("mae_verdict", "–")
            methods.append({"name": title, "model": False, "cells": _cells(figures["baselines"][method][name]), "verdict": verdict})
    contrasts = figures["per_contrast"][name]
    picture, captions = pictures.get(name, (None, []))
    return {
        "title": TITLES[name],
        "slices": test["slices"],
        "groups": test["groups"],
        "spread": test.get("spread"),
        "methods": methods,
        "contrasts": [{"name": one.upper(), "cells": _cells(scores)} for one, scores in contrasts.items()],
        "cycle_mae": _cell(test, "cycle_mae"),
        "cycle_ssim": _cell(test, "cycle_ssim"),
        "picture": _inlined(picture) if picture else None,
        "captions": captions,
        "third": "truth" if "mae" in test else "there and back",
    }


def _cells(scores: dict[str, float]) -> list[str]:
    return [_cell(scores, name) for name in SCORES]


def _cell(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return "–"
    digits = 1 if name == "psnr" else 3
    return f"{scores[name]:.{digits}f} [{scores[f'{name}_low']:.{digits}f}, {scores[f'{name}_high']:.{digits}f}]"


def _inlined(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
