"""What a retraining did, as Markdown: for the Prefect UI, the report file and notifications."""

from collections.abc import Sequence

from pipeline.retraining.stages import StageFailed, StageResult

WORDS = {"ran": "ran", "restored": "restored from cache", "unchanged": "cached, nothing changed"}


def stage_table(stages: Sequence[str], results: Sequence[StageResult], failure: StageFailed | None = None) -> str:
    """One row per stage of the graph: what it did and how long it took."""
    done = {result.stage: result for result in results}
    rows = ["| stage | result | seconds |", "| --- | --- | ---: |"]
    for stage in stages:
        if stage in done:
            rows.append(f"| {stage} | {WORDS[done[stage].outcome]} | {done[stage].seconds:.1f} |")
        elif failure and failure.stage == stage:
            rows.append(f"| {stage} | **{failure.why}** | |")
        else:
            rows.append(f"| {stage} | not reached | |")
    return "\n".join(rows) + "\n"


def failure_section(failure: StageFailed) -> str:
    """The failed stage's own last lines."""
    return f"Last lines of {failure.stage}:\n\n```\n" + "\n".join(failure.lines) + "\n```\n"
