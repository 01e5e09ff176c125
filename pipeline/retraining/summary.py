"""What a retraining did: read from what its stages left, and told as Markdown for the Prefect UI, the report file and notifications."""

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.domain import HEADLINE_SCORES, Direction, Interval
from pipeline.retraining.history import Record, counts, describe
from pipeline.tracking import promotion
from pipeline.tracking.promotion import Decision

WORDS = {"ran": "ran", "restored": "restored from cache", "unchanged": "nothing changed"}
OUTCOMES = {
    "repeated": "the same models as of an earlier training, whose decision stands",
    "no change": "nothing new, nothing done",
    "failed": "failed",
    "lost": "ended while it registered; nothing was promoted",
    "cancelled": "stopped from outside",
}
_PURPOSE = {"train": "train", "val": "watch training", "test": "judge"}


def read_data(folder: Path, record: Record) -> None:
    """Data, scores and run of the graph that is finished in `folder` as far as evaluate."""
    record.source = read_json(folder / paths.SOURCE_JSON)
    record.fit = read_json(folder / paths.VALIDATION_JSON).get("counts", {})
    record.split = read_json(folder / paths.SPLIT_JSON).get("slices", {})
    names = [name for score in HEADLINE_SCORES for name in (score, f"{score}_low", f"{score}_high")]
    for direction, scores in read_json(folder / paths.METRICS_JSON).get("test", {}).items():
        record.scores[direction] = {name: scores[name] for name in names if isinstance(scores.get(name), int | float)}
    record.run = {key: str(value) for key, value in read_json(folder / paths.RUN_JSON).items()}


def read_results(folder: Path, record: Record, before: dict[str, str], now: dict[str, str]) -> None:
    """As read_data, and the decisions; `outcome` becomes promoted, refused, or repeated where nothing was decided.

    `before` and `now`: digests of the champions' weights before and after register, by model. The same weights with the same scores keep
    an earlier training's decision, so that this one's "champion" need not be true any more, or was true before.
    """
    read_data(folder, record)
    versions = read_json(folder / paths.VERSIONS_JSON)
    record.decisions = {
        model: {"champion": entry["decision"]["promoted"], "weights": entry["weights"], "decision": entry["decision"], "notes": []}
        for model, entry in versions.items()
    }
    promoted = record.promoted = [
        model for model, entry in record.decisions.items() if before.get(model) != now.get(model) == entry["weights"]
    ]
    ran = {"stage": "register", "outcome": "ran"}.items() <= record.stages[-1].items()
    repeated = not ran or any(entry["champion"] for entry in record.decisions.values())
    record.outcome = "promoted" if promoted else "repeated" if repeated else "refused"
    for model, entry in record.decisions.items():
        if entry["champion"] and model not in promoted:
            entry["champion"] = now.get(model) == entry["weights"]
            said = "it was champion before" if entry["champion"] else "another version is champion since"
            entry["notes"].append(f"so decided when these weights were first trained; {said}")


def models_to_approve(record: Record) -> list[str]:
    """Models that passed every check and are not champion; a person decides on them where promotion is manual."""
    return [
        model for model, entry in record.decisions.items() if not entry["champion"] and not Decision.from_json(entry["decision"]).failed
    ]


def measure_drift(manifest: Path, statistics: dict[str, Any]) -> dict[str, Any]:
    """Drift of the data in `manifest` from earlier `statistics`, only the tests that found one; empty where there are none."""
    if not statistics:
        return {}
    from pipeline.dataset.drift import compare
    from pipeline.dataset.parquet_files import read_table

    compared = compare(read_table(manifest, "validate"), statistics)
    tests = [test for test in compared["tests"] if test["drifted"]]
    return {"from": "the data of the last retraining", "drifted": compared["drifted"], "tests": tests}


def copy_report(folder: Path, target: Path) -> dict[str, str]:
    """Copy the report and the samples of the graph finished in `folder` into `target`; gives places to read on, by name."""
    target.mkdir(parents=True, exist_ok=True)
    places = {}
    for name, file in {"report": paths.REPORT_HTML, "model card": paths.MODEL_CARD, "samples": paths.TRAIN_REPORT / "samples.png"}.items():
        if (folder / file).is_file():
            shutil.copyfile(folder / file, target / file.name)
            places[name] = str(target / file.name)
    return places


def read_json(file: Path) -> dict[str, Any]:
    """Content of a JSON file; empty when it is absent."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return content


def headline(record: Record) -> str:
    """One line: which retraining, how it ended, and why where that is known."""
    why = record.error or record.news
    return f"{record.name}: {_outcome(record)}" + (f" – {why}" if why else "")


def markdown(record: Record, stages: list[str], picture: str = "", links: dict[str, str] | None = None) -> str:
    """The whole summary; `picture` is the address of the sample grid, `links` name where to read on."""
    parts = [f"# {record.name}: {_outcome(record)}\n\n{_facts(record)}"]
    if record.error:
        lines = "\n".join(["", "```", *record.last_lines, "```"]) if record.last_lines else ""
        parts.append(f"## What went wrong\n{record.error}\n{lines}")
    if record.decisions:
        parts.append("## Decision\n" + "\n".join(_decisions(record)))
    if record.scores:
        parts.append("## Scores on the test slices, with 95 % intervals\n" + _score_table(record))
    parts.append("## Data\n" + "\n".join(_data(record)))
    if stages and (record.stages or record.outcome != "no change"):
        parts.append("## Stages\n" + stage_table(record, stages))
    if picture:
        parts.append(f"## Samples\nRows: CT, MR made of it, MR, CT made of it.\n\n![samples]({picture})")
    if links:
        parts.append("## Read on\n" + "\n".join(f"- {name}: {place}" for name, place in links.items()))
    return "\n\n".join(parts) + "\n"


def stage_table(record: Record, stages: list[str]) -> str:
    """One row per stage of the graph: what it did and how long it took."""
    done = {entry["stage"]: entry for entry in record.stages}
    rows = ["| stage | result | seconds |", "| --- | --- | ---: |"]
    for stage in stages:
        entry = done.get(stage)
        rows.append(f"| {stage} | {WORDS[entry['outcome']]} | {entry['seconds']:.1f} |" if entry else f"| {stage} | not reached | |")
    return "\n".join(rows)


def _outcome(record: Record) -> str:
    """How it ended; with the models that were promoted, and the conditions that others failed."""
    if record.outcome not in ("promoted", "refused", "waiting") or not record.decisions:
        became = f"{' and '.join(record.promoted)} became champion" if record.promoted else ""
        return ", but ".join(filter(None, (OUTCOMES.get(record.outcome, ""), became)))
    return ", ".join(f"{model} {_verdict(decision, record.outcome == 'waiting')}" for model, decision in record.decisions.items())


def _verdict(decision: dict[str, Any], waiting: bool) -> str:
    failed = [promotion.label(check) for check in Decision.from_json(decision["decision"]).failed]
    if waiting and not failed:
        return "waits for approval"
    return "promoted" if decision["champion"] else "not promoted" + (f" (failed: {', '.join(failed)})" if failed else "")


def _facts(record: Record) -> str:
    facts = [f"began {record.began}", f"mode {record.mode}", f"commit {record.base[:8]}"]
    if record.ended:
        took = datetime.fromisoformat(record.ended) - datetime.fromisoformat(record.began)
        facts.insert(1, f"took {took.total_seconds():.0f} s")
    if record.settings:
        facts.append(f"with {', '.join(record.settings)}")
    return ", ".join(facts) + "".join(f"  \n{note}" for note in record.notes)


def _data(record: Record) -> Iterator[str]:
    if record.news:
        yield f"- looked for new data: {record.news}"
    if record.source:
        yield f"- in use: {describe(record.source)}, {counts(record.source)}"
    if record.old_source and record.source and record.old_source.get("sha256") != record.source.get("sha256"):
        yield f"- before: {describe(record.old_source)}, {counts(record.old_source)}"
    for modality, fit in record.fit.items():
        left_out = ", ".join(f"{number} {why}" for why, number in fit["quarantined"].items())
        yield f"- {modality.upper()}: {fit['ok']} of {fit['slices']} slices fit for use" + (f" (left out: {left_out})" if left_out else "")
    if record.split:
        yield "- slices: " + ", ".join(f"{counts({'counts': record.split[part]})} to {use}" for part, use in _PURPOSE.items())
    if record.drift:
        drifted = [f"{test['modality']} {test['measure']} {test['reference_median']} → {test['median']}" for test in record.drift["tests"]]
        yield f"- drift from {record.drift['from']}: {', '.join(drifted) or 'none found'}"


def _decisions(record: Record) -> Iterator[str]:
    for model, decision in record.decisions.items():
        yield f"- **{model}: {'champion' if decision['champion'] else _verdict(decision, record.outcome == 'waiting')}**"
        yield from (f"  - {line}" for line in (*promotion.sentences(Decision.from_json(decision["decision"])), *decision["notes"]))


def _score_table(record: Record) -> str:
    names = [name for name in HEADLINE_SCORES if any(name in scores for scores in record.scores.values())]
    rows = ["| direction | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for direction, scores in record.scores.items():
        figures = (str(Interval.from_scores(scores, name)) if name in scores else "–" for name in names)
        rows.append(f"| {Direction(direction).arrow} | " + " | ".join(figures) + " |")
    return "\n".join(rows)
