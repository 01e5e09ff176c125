"""reports/quality: validation.json, quarantine.csv, contact sheets and a page that shows them. No stamps, no outside addresses."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from pipeline import atomic, params, paths
from pipeline.dataset import contact_sheet, drift, expectations
from pipeline.dataset.expectations import Expectation
from pipeline.dataset.quality import OK, QUARANTINED, shares
from pipeline.errors import UserError
from pipeline.formats.table import read_slice
from pipeline.imaging import intensity

if TYPE_CHECKING:
    import pandas as pd

PER_SHEET = 60
SHEETS = "sheets"


def expect(judged: "pd.DataFrame", quality: params.Quality) -> list[dict[str, Any]]:
    """What must hold of the judged manifest (severity critical) and what should (warning), as checked by Great Expectations."""
    import pandas as pd

    sound = judged[judged["status"] == OK]
    slices = [
        Expectation("ColumnValuesToBeUnique", "each slice has its own id", {"column": "slice_id"}),
        Expectation("ColumnValuesToBeInSet", "modality is ct or mr", {"column": "modality", "value_set": list(paths.MODALITIES)}),
        Expectation("ColumnValuesToBeInSet", "status is ok or quarantined", {"column": "status", "value_set": [OK, QUARANTINED]}),
        Expectation("ColumnValuesToMatchRegex", "an id starts with the modality", {"column": "slice_id", "regex": r"^(?:ct|mr)/"}),
    ]
    fit = [
        Expectation("ColumnValuesToBeUnique", "no two sound slices have the same pixels", {"column": "sha256"}),
        Expectation("ColumnValuesToMatchRegex", "every sound slice has a perceptual hash", {"column": "phash", "regex": "^[0-9a-f]{64}$"}),
        Expectation("ColumnValuesToBeBetween", "sides of sound slices", {"column": "height", "min_value": quality.min_side}),
        Expectation("ColumnValuesToBeBetween", "sides of sound slices", {"column": "width", "min_value": quality.min_side}),
        Expectation(
            "ColumnValuesToBeBetween",
            "a head in every sound slice",
            {"column": "head_share", "min_value": 0, "strict_min": True, "max_value": 1},
        ),
        Expectation(
            "ColumnMedianToBeBetween", "heads fill their pictures", {"column": "head_share", "min_value": 0.15}, expectations.WARNING
        ),
        Expectation("ColumnMeanToBeBetween", "few pixels at white", {"column": "saturated", "max_value": 0.5}, expectations.WARNING),
    ]
    by_modality = shares(judged)
    table = pd.DataFrame({"modality": list(by_modality), "quarantined": list(by_modality.values())})
    limit = [
        Expectation(
            "ColumnDistinctValuesToEqualSet", "both modalities are there", {"column": "modality", "value_set": list(paths.MODALITIES)}
        ),
        Expectation(
            "ColumnValuesToBeBetween",
            "share of quarantined slices",
            {"column": "quarantined", "min_value": 0, "max_value": quality.max_quarantined},
        ),
    ]
    return [
        *expectations.check("manifest", judged, slices),
        *(expectations.check("sound slices", sound, fit) if len(sound) else []),
        *expectations.check("modalities", table, limit),
    ]


def write(folder: Path, judged: "pd.DataFrame", results: list[dict[str, Any]], raw: Path = paths.RAW) -> None:
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
    content = {"success": not failed(results), "counts": counts, "expectations": results}
    atomic.write_json(folder / paths.VALIDATION_JSON.name, content)
    _write_quarantine(folder / paths.QUARANTINE_CSV.name, judged)
    sheets = list(_draw_sheets(folder / SHEETS, judged, raw))
    _write_page(folder / "index.html", "quality_page.html", **content, sheets=sheets)


def write_drift(folder: Path, judged: "pd.DataFrame", reference: str | None) -> bool:
    """Add statistics.json, drift.json and drift.html to `folder`; whether the data has drifted from the `reference` statistics.

    Raises UserError when the file that `reference` names is missing or holds no statistics.
    """
    compared: dict[str, Any] = {"drifted": False, "tests": []}
    if reference is not None:
        compared = drift.compare(judged, _read_statistics(paths.as_given(reference)))
    atomic.write_json(folder / paths.STATISTICS_JSON.name, drift.statistics(judged))
    atomic.write_json(folder / paths.DRIFT_JSON.name, {**compared, "reference": reference})
    _write_page(folder / "drift.html", "drift_page.html", **compared, reference=reference, alpha=drift.ALPHA, large=drift.LARGE)
    return bool(compared["drifted"])


def _read_statistics(file: Path) -> dict[str, Any]:
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


def failed(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that fail the stage."""
    return [result for result in results if not result["success"] and result["severity"] == expectations.FAILING]


def _count(words: "pd.Series[str]") -> dict[str, int]:
    """How often each word stands in a column; empty ones left out."""
    return {str(word): int(count) for word, count in words[words != ""].value_counts().sort_index().items()}


def _write_quarantine(file: Path, judged: "pd.DataFrame") -> None:
    bad = judged[judged["status"] == QUARANTINED]
    with file.open("w", newline="", encoding="utf-8") as output:
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["slice_id", "path", "modality", "reason", "detail"])
        writer.writerows(bad[["slice_id", "path", "modality", "reason", "complaint"]].itertuples(index=False))


def _draw_sheets(folder: Path, judged: "pd.DataFrame", raw: Path) -> Iterator[dict[str, Any]]:
    """One sheet per modality and reason (and one of accepted slices), at most PER_SHEET slices each, evenly spread over them."""
    folder.mkdir(parents=True)
    topics = judged.assign(topic=judged["reason"].mask(judged["reason"] == "", judged["warning"]))
    for (modality, reason), mine in topics.groupby(["modality", "topic"]):
        legible = mine[mine["complaint"] == ""]
        if legible.empty:
            continue
        shown = legible.iloc[[i * len(legible) // PER_SHEET for i in range(PER_SHEET)]] if len(legible) > PER_SHEET else legible
        pictures = []
        for path, frame in zip(shown["path"], shown["frame"], strict=True):
            slice_ = read_slice(raw / path, frame)
            pictures.append(intensity.view(slice_.pixels, slice_.unit, str(modality)))
        name = f"{modality}_{(str(reason) or 'accepted').replace(' ', '_').replace('/', '_')}.png"
        contact_sheet.save(folder / name, pictures, [Path(str(slice_id)).name for slice_id in shown["slice_id"]])
        yield {"file": f"{SHEETS}/{name}", "modality": modality, "reason": reason or "accepted", "shown": len(shown), "of": len(mine)}
