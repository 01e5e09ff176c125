"""What a retraining did, as Markdown: for the Prefect UI, the report file and notifications."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pipeline.retraining.history import Record, counts, describe
from pipeline.tracking.gate import HEADLINE

WORDS = {"ran": "ran", "restored": "restored from cache", "unchanged": "nothing changed"}
OUTCOMES = {
    "repeated": "the same models as of an earlier training, whose decision stands",
    "no change": "nothing new, nothing done",
    "failed": "failed",
    "cancelled": "stopped from outside",
}
_PURPOSE = {"train": "train", "val": "watch training", "test": "judge"}


def headline(record: Record) -> str:
    """One line: which retraining, how it ended, and why where that is known."""
    why = record.error or record.found
    return f"{record.name}: {_outcome(record)}" + (f" – {why}" if why else "")


def markdown(record: Record, stages: list[str], picture: str = "", links: dict[str, str] | None = None) -> str:
    """The whole summary; `picture` is the address of the sample grid, `links` name where to read on."""
    parts = [f"# {record.name}: {_outcome(record)}\n\n{_facts(record)}"]
    if record.error:
        parts.append("## What went wrong\n" + record.error + "\n" + _quoted(record.last_lines))
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
        rows.append(f"| {stage} | {entry['result']} | {entry['seconds']:.1f} |" if entry else f"| {stage} | not reached | |")
    return "\n".join(rows)


def _outcome(record: Record) -> str:
    """How it ended; with the models that were promoted, and the conditions that others failed."""
    if record.outcome not in ("promoted", "refused", "waiting"):
        return OUTCOMES[record.outcome]
    return ", ".join(f"{model} {_verdict(decision, record.outcome == 'waiting')}" for model, decision in record.decisions.items())


def _verdict(decision: dict[str, Any], waiting: bool) -> str:
    failed = [reason.partition(": NO")[0] for reason in decision["reasons"] if ": NO" in reason]
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
    if record.found:
        yield f"- looked for new data: {record.found}"
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
        yield from (f"  - {reason}" for reason in decision["reasons"])


def _score_table(record: Record) -> str:
    names = [name for name in HEADLINE if any(name in scores for scores in record.scores.values())]
    rows = ["| direction | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for direction, scores in record.scores.items():
        rows.append(f"| {direction} | " + " | ".join(_score(scores, name) for name in names) + " |")
    return "\n".join(rows)


def _score(scores: dict[str, float], name: str) -> str:
    if name not in scores:
        return "–"
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    return f"{scores[name]:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")


def _quoted(lines: list[str]) -> str:
    return "\n```\n" + "\n".join(lines) + "\n```" if lines else ""
