"""reports/quality: validation.json, quarantine.csv, contact sheets and a page that shows them. No stamps, no outside addresses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline import atomic, paths
from pipeline.dataset import drift, expectations
from pipeline.dataset.quality import OK, QUARANTINED
from pipeline.errors import UserError
from pipeline.formats.table import read_slices
from pipeline.imaging import intensity

PER_SHEET = 60
SHEETS = "sheets"
CELL, LABEL, COLUMNS = 128, 14, 10  # pixels of a slice and of the line below it, and slices side by side
BACKGROUND, INK = 40, 230


def write(folder: Path, judged: pd.DataFrame, results: list[dict[str, Any]], raw: Path) -> None:
    """Fill `folder` with the whole report."""
    counts = {
        str(modality): {
            "slices": len(mine),
            "ok": int((mine["status"] == OK).sum()),
            "quarantined": _count(mine["reason"]),
            "warnings": _count(mine["warning"]),
            "contrast": _count(mine.loc[mine["status"] == OK, "contrast"]),
        }
        for modality, mine in judged.groupby("modality")
    }
    content = {"success": not expectations.failed(results), "counts": counts, "expectations": results}
    atomic.write_json(folder / paths.VALIDATION_JSON.name, content)
    columns = {"slice_id": "slice_id", "path": "path", "modality": "modality", "reason": "reason", "complaint": "detail"}
    quarantined = judged.loc[judged["status"] == QUARANTINED, list(columns)].rename(columns=columns)
    quarantined.to_csv(folder / paths.QUARANTINE_CSV.name, index=False, lineterminator="\n")
    sheets = list(_draw_sheets(folder / SHEETS, judged, raw))
    _write_page(folder / "index.html", "quality_page.html", **content, sheets=sheets)


def write_drift(folder: Path, judged: pd.DataFrame, reference: dict[str, Any] | None, name: str | None) -> bool:
    """Add statistics.json, drift.json and drift.html to `folder`; whether the data has drifted from the `reference` statistics.

    `name`: what the reference is called, as params have it.
    """
    compared = drift.compare(judged, reference) if reference else {"drifted": False, "tests": []}
    atomic.write_json(folder / paths.STATISTICS_JSON.name, drift.statistics(judged))
    atomic.write_json(folder / paths.DRIFT_JSON.name, {**compared, "reference": name})
    _write_page(folder / "drift.html", "drift_page.html", **compared, reference=name, alpha=drift.ALPHA, large=drift.LARGE)
    return bool(compared["drifted"])


def read_reference(name: str | None) -> dict[str, Any] | None:
    """The statistics that `quality.drift_reference` names; None without one. Raises UserError when they are missing or something else."""
    if name is None:
        return None
    file = paths.as_given(name)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {modality: dict(content[modality]) for modality in paths.MODALITIES}
    except FileNotFoundError:
        problem = "no such file"
    except (ValueError, KeyError, TypeError):
        problem = "not the statistics of a data set"
    raise UserError(f"quality.drift_reference = {file}: {problem}; name a statistics.json that validate wrote, or null")


def _write_page(file: Path, template: str, **content: Any) -> None:
    source = Path(__file__).with_name(template).read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    file.write_text(page.render(**content), encoding="utf-8")


def _count(words: pd.Series) -> dict[str, int]:
    """How often each word stands in a column; empty ones left out."""
    return {str(word): int(count) for word, count in words[words != ""].value_counts().sort_index().items()}


def _draw_sheets(folder: Path, judged: pd.DataFrame, raw: Path) -> Iterator[dict[str, Any]]:
    """One sheet per modality and reason (and one of accepted slices), at most PER_SHEET slices each, evenly spread over them."""
    folder.mkdir(parents=True)
    topics = judged.assign(topic=judged["reason"].mask(judged["reason"] == "", judged["warning"]))
    for (modality, reason), mine in topics.groupby(["modality", "topic"]):
        legible = mine[mine["complaint"] == ""]
        if legible.empty:
            continue
        shown = legible.iloc[[i * len(legible) // PER_SHEET for i in range(PER_SHEET)]] if len(legible) > PER_SHEET else legible
        pictures, labels = [], []
        for path, of_file in shown.groupby("path", sort=False):
            slices = read_slices(raw / str(path), str(modality))
            pictures += [intensity.view(slices[n].pixels, slices[n].unit, str(modality)) for n in of_file["frame"]]
            labels += [Path(str(slice_id)).name for slice_id in of_file["slice_id"]]
        name = f"{modality}_{(str(reason) or 'accepted').replace(' ', '_').replace('/', '_')}.png"
        _draw_sheet(pictures, labels).save(folder / name)
        yield {"file": f"{SHEETS}/{name}", "modality": modality, "reason": reason or "accepted", "shown": len(shown), "of": len(mine)}


def _draw_sheet(pictures: list[NDArray[np.float32]], labels: list[str]) -> Image.Image:
    """Pictures of 0..1 of any size, each scaled into a square with its label (cut to fit) below it."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("L", (min(len(pictures), COLUMNS) * CELL, rows * (CELL + LABEL)), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * (CELL + LABEL)
        cell = Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        cell.thumbnail((CELL - 4, CELL - 4))
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
        pen.text((left + 3, top + CELL), label[-20:], fill=INK)
    return sheet
