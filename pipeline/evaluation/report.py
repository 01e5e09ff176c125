"""report.html: one file that a clinician can read, the same bytes for the same scores."""

import base64
import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from pipeline import paths
from pipeline.evaluation.metrics import SCORES

NAMES = {
    "copy": "Copy the input",
    "histogram": "Input with the target's histogram",
    "mean": "Mean picture of the target's training slices",
    "black": "All black",
}
TITLES = {"ct_to_mr": "CT → MR", "mr_to_ct": "MR → CT"}
LEVEL_NAMES = {"low": "Low (skull base, face)", "middle": "Middle", "top": "Top (near the vertex)"}
LESIONS = {"bleed": "Bleed", "infarct": "Infarct", "tumour": "Tumour with oedema", "hole": "Resection hole"}
OTHERS = {  # what it is called, and how to read it
    "mae_hu": ("Mean absolute error, HU", "inside the head, within the display window; lower is better"),
    "whole_ms_ssim": ("Multi-scale SSIM, whole picture", "1: same; black background flatters it"),
    "skull_dice": ("Overlap of skull", "Dice: 1 in the right place, 0 nowhere right"),
    "fluid_dice": ("Overlap of fluid", "Dice, as above"),
    "air_dice": ("Overlap of air and fat", "Dice, as above"),
    "outline_dice": ("Outline of the head kept", "Dice, input against translation"),
    "gradient_correlation": ("Edges kept", "correlation, input against translation; copying the input keeps all"),
    "mind_distance": ("Structure moved or lost", "MIND distance, input against translation; 0: none"),
    "nmi": ("Information shared with the input", "normalised mutual information, 1: none, 2: all"),
    "texture_frechet": ("Texture unlike real slices", "Fréchet distance, 0 is best"),
    "texture_kernel": ("Texture unlike real slices", "kernel distance, 0 is best"),
    "doubt_correlation": ("Does doubt point at errors?", "correlation; 0: doubt is worth nothing, 1: it shows every error"),
}


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
        kinds=list(LESIONS.values()),
        directions=[_direction(name, figures, pictures) for name in figures["test"]],
        curves=_inlined(curves.read_bytes()) if curves.is_file() else None,
        lesions=_lesions(figures["lesions"]),
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
    picture, captions = pictures.get(name, (None, []))
    parts = [(f"MR contrast {one.upper()}", scores) for one, scores in figures["per_contrast"][name].items()]
    parts += [(LEVEL_NAMES[one], scores) for one, scores in figures["per_level"][name].items() if "mae" in scores]
    undefined = figures["undefined"].get(name, {}).get("model", {})
    return {
        "title": TITLES[name],
        "slices": test["slices"],
        "groups": test["groups"],
        "spread": test.get("spread"),
        "methods": methods,
        "parts": [{"name": one, "slices": scores["slices"], "cells": _cells(scores)} for one, scores in parts],
        "others": [{"name": OTHERS[one][0], "cell": _other(test, one), "how": OTHERS[one][1]} for one in OTHERS if one in test],
        "cycle_mae": _cell(test, "cycle_mae"),
        "cycle_ssim": _cell(test, "cycle_ssim"),
        "undefined": ", ".join(f"{OTHERS.get(one, [one])[0]} ({count})" for one, count in undefined.items()),
        "examples": list(zip(captions, _strips(picture, len(captions)), strict=True)) if picture else [],
        "third": "truth" if "mae" in test else "there and back",
    }


def _lesions(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a direction: how many lesions, contrast kept, share kept, contrast kept of each kind."""
    return [
        {
            "title": TITLES[name],
            "count": one["lesions"],
            "kept": round(one["kept"] * one["lesions"]),
            "contrast": _cell(one, "contrast"),
            "kinds": [f"{one['by_kind'][kind]:.2f}" if kind in one["by_kind"] else "–" for kind in LESIONS],
        }
        for name, one in found.items()
        if "contrast" in one
    ]


def _other(scores: dict[str, float], name: str) -> str:
    """A score with its interval; a texture distance with that of the untranslated input instead."""
    if f"copy_{name}" in scores:
        return f"{scores[name]:.2f} (untranslated: {scores[f'copy_{name}']:.2f})"
    return _cell(scores, name)


def _cells(scores: dict[str, float]) -> list[str]:
    return [_cell(scores, name) for name in SCORES]


def _cell(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return "–"
    digits = 1 if name in ("psnr", "mae_hu") else 3
    return f"{scores[name]:.{digits}f} [{scores[f'{name}_low']:.{digits}f}, {scores[f'{name}_high']:.{digits}f}]"


def _strips(picture: Path, count: int) -> list[str]:
    """The lines of a grid of pictures, one by one."""
    grid, strips = Image.open(picture), []
    height = grid.height // count
    for line in range(count):
        buffer = io.BytesIO()
        grid.crop((0, line * height, grid.width, (line + 1) * height)).save(buffer, "PNG")
        strips.append(_inlined(buffer.getvalue()))
    return strips


def _inlined(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
