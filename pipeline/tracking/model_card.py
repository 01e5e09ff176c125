"""The model card: what the two generators are, what they were trained and tested on, how good they are, what they are not for."""

from collections.abc import Mapping
from typing import Any

from pipeline import paths
from pipeline.domain import Interval
from pipeline.sources.provenance import Provenance
from pipeline.tracking.promotion import Decision

_SHOWN = {
    "mae": "error inside the head (0..1)",
    "ssim": "structural similarity inside the head",
    "psnr": "peak signal to noise inside the head (dB)",
    "correlation": "correlation inside the head",
    "cycle_mae": "error after there and back (0..1)",
    "cycle_ssim": "structural similarity after there and back",
}


def write(
    model: Mapping[str, Any],
    source: Provenance | None,
    scores: Mapping[str, Mapping[str, float]],
    decisions: Mapping[str, Decision],
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """The card as Markdown, from models/model.json, what is known of the data, the test scores and the decisions, by direction.

    `metrics`, what the evaluation wrote, has the baselines that stand beside the champion.
    """
    preprocess, network = model["preprocess"], model["model"]
    level, width = preprocess["ct_window"]["level"], preprocess["ct_window"]["width"]
    lines = [
        "# Brain CT ↔ MR translation",
        "",
        "**Synthetic images, for research only. Not for diagnosis, not for treatment planning.**",
        "",
        "## What it does",
        f"Two generators ({network['generator']}, width {network['generator_width']}) turn axial brain slices into the other modality at"
        f" {preprocess['pixels']} × {preprocess['pixels']} pixels: `ct-to-mr` and `mr-to-ct`. CT is seen and made in a window"
        f" of {level:g} ± {width / 2:g} HU; what lies outside of it is not known to the model.",
        "",
        "## Trained on",
        f"{_source(source)} Translation was learned from unpaired slices; simulated heads with known truth may have taught it beforehand.",
        "",
        "## Scores on the test slices",
        "Means with 95 % intervals where given.",
        "",
    ]
    shown = {key: what for key, what in _SHOWN.items() if any(key in scores.get(direction, {}) for direction in paths.DIRECTIONS)}
    lines += ["| score | CT → MR | MR → CT |", "| --- | --- | --- |"]
    lines += [
        f"| {what} | {_cell(scores.get('ct_to_mr', {}), key)} | {_cell(scores.get('mr_to_ct', {}), key)} |" for key, what in shown.items()
    ]
    for direction, decision in decisions.items():
        lines += ["", f"## {direction.replace('_', '-')}: {'champion' if decision.promoted else 'challenger'}"]
        lines += [f"- {reason}" for reason in decision.reasons]
        lines += _rivals(direction, decision, metrics or {})
    lines += [
        "",
        "## Limits",
        "- A translation shows what such a head usually looks like, not what this head contains: lesions may vanish, appear or change.",
        "- Slice by slice: neighbouring slices of a volume need not agree.",
        "- Only axial slices of heads; other scanners, sequences, ages and diseases than in the training data were not tested.",
        "",
    ]
    return "\n".join(lines)


def _rivals(direction: str, decision: Decision, metrics: Mapping[str, Any]) -> list[str]:
    """A table of the errors of the champion until now and of the baselines on the same test slices; empty where there is neither."""
    rows, against = [], decision.against
    if against:
        difference = Interval.from_scores(against, "difference", signed=True)
        rows.append(f"| champion {against['champion']} | {against['champion_error']:.3f} | {difference} | {against['verdict']} |")
    for method, paired in metrics.get("difference", {}).items():
        one = paired.get(direction, {})
        if "mae" in one:
            error = metrics["baselines"][method][direction]["mae"]
            difference = Interval.from_scores(one, "mae", signed=True)
            rows.append(f"| {method} | {error:.3f} | {difference} | {one['mae_verdict']} |")
    header = ["", "| compared with | its error | this model minus that | this model is |", "| --- | --- | --- | --- |"]
    return [*header, *rows] if rows else []


def _source(source: Provenance | None) -> str:
    return f"{source} (digest {source.sha256[:12]})." if source else "Data not on this machine; see the run in MLflow."


def _cell(scores: Mapping[str, float], key: str) -> str:
    if key not in scores:
        return "–"
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return f"{scores[key]:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")
