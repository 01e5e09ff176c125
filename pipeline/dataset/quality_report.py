"""reports/quality: validation.json, quarantine.csv, contact sheets and a page that shows them. No stamps, no outside addresses."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from pipeline import atomic, params, paths
from pipeline.dataset import contact_sheet, expectations
from pipeline.dataset.expectations import Expectation
from pipeline.dataset.quality import OK, QUARANTINED, shares
from pipeline.imaging import intensity, readers

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
        Expectation("ColumnValuesToMatchRegex", "frames are numbered from 0", {"column": "slice_id", "regex": r"^(ct|mr)/"}),
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
        str(modality): {"slices": len(mine), "ok": int((mine["status"] == OK).sum()), "quarantined": _by_reason(mine)}
        for modality, mine in judged.groupby("modality")
    }
    content = {"success": not failed(results), "counts": counts, "expectations": results}
    atomic.write_json(folder / paths.VALIDATION_JSON.name, content)
    _write_quarantine(folder / paths.QUARANTINE_CSV.name, judged)
    sheets = list(_draw_sheets(folder / SHEETS, judged, raw))
    page = _TEMPLATE.render(**content, sheets=sheets)
    (folder / "index.html").write_text(page, encoding="utf-8")


def failed(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results that fail the stage."""
    return [result for result in results if not result["success"] and result["severity"] == expectations.FAILING]


def _by_reason(slices: "pd.DataFrame") -> dict[str, int]:
    return {str(reason): int(count) for reason, count in slices.loc[slices["reason"] != "", "reason"].value_counts().sort_index().items()}


def _write_quarantine(file: Path, judged: "pd.DataFrame") -> None:
    bad = judged[judged["status"] == QUARANTINED]
    with file.open("w", newline="", encoding="utf-8") as output:
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["slice_id", "path", "modality", "reason", "detail"])
        writer.writerows(bad[["slice_id", "path", "modality", "reason", "complaint"]].itertuples(index=False))


def _draw_sheets(folder: Path, judged: "pd.DataFrame", raw: Path) -> Iterator[dict[str, Any]]:
    """One sheet per modality and reason (and one of accepted slices), at most PER_SHEET slices each, evenly spread over them."""
    folder.mkdir(parents=True)
    for (modality, reason), mine in judged.groupby(["modality", "reason"]):
        legible = mine[mine["complaint"] == ""]
        if legible.empty:
            continue
        shown = legible.iloc[[i * len(legible) // PER_SHEET for i in range(PER_SHEET)]] if len(legible) > PER_SHEET else legible
        pictures = []
        for row in shown.itertuples():
            slice_ = readers.read_slice(raw / str(row.path), int(str(row.frame)))
            pictures.append(intensity.view(slice_.pixels, slice_.unit, str(row.modality)))
        name = f"{modality}_{(str(reason) or 'accepted').replace(' ', '_').replace('/', '_')}.png"
        contact_sheet.save(folder / name, pictures, [Path(str(slice_id)).name for slice_id in shown["slice_id"]])
        yield {"file": f"{SHEETS}/{name}", "modality": modality, "reason": reason or "accepted", "shown": len(shown), "of": len(mine)}


_TEMPLATE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Data quality</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { border-bottom: 1px solid #d5dae0; padding: .3rem .8rem; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } img { max-width: 100%; } .pass { color: #16703a; } .critical { color: #b3261e; }
.warning { color: #8a5a00; } nav a { margin-right: 1rem; }
</style></head><body>
<h1>Data quality: <span class="{{ 'pass' if success else 'critical' }}">{{ 'fit for use' if success else 'not fit for use' }}</span></h1>
<table><tr><th>Modality</th><th>Slices</th><th>Sound</th><th>Quarantined, by reason</th></tr>
{% for modality, count in counts.items() %}
<tr><td>{{ modality | upper }}</td><td class="number">{{ count.slices }}</td><td class="number">{{ count.ok }}</td>
<td>{% for reason, number in count.quarantined.items() %}<a href="#{{ modality }}-{{ reason | replace(' ', '-') }}">{{ reason }}</a>: {{ number }}{{ ', ' if not loop.last }}{% else %}none{% endfor %}</td></tr>
{% endfor %}</table>
<p>Every quarantined slice with its reason: <a href="quarantine.csv">quarantine.csv</a>. The same facts for machines: <a href="validation.json">validation.json</a>.</p>
<h2>Expectations</h2>
<table><tr><th>Holds</th><th>Table</th><th>Expectation</th><th>Column</th><th>Meaning</th><th>Severity</th><th>Observed</th><th>Unexpected</th></tr>
{% for result in expectations %}
<tr><td class="{{ 'pass' if result.success else result.severity }}">{{ 'yes' if result.success else 'no' }}</td><td>{{ result.table }}</td><td>{{ result.expectation }}</td>
<td>{{ result.column }}</td><td>{{ result.meaning }}</td><td>{{ result.severity }}</td><td>{{ result.observed if result.observed is not none else '' }}</td>
<td>{{ result.unexpected or '' }}{{ ': ' ~ result.examples | join(', ') if result.examples }}</td></tr>
{% endfor %}</table>
<h2>Contact sheets</h2>
{% for sheet in sheets %}
<h3 id="{{ sheet.modality }}-{{ sheet.reason | replace(' ', '-') }}">{{ sheet.modality | upper }}, {{ sheet.reason }} ({{ sheet.shown }} of {{ sheet.of }})</h3>
<img src="{{ sheet.file }}" alt="{{ sheet.reason }}" loading="lazy">
{% endfor %}
</body></html>
""")
