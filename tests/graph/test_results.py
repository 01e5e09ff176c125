"""What a retraining says it did, from what its stages left: a decision that was only remembered is none."""

import json
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.retraining import summary
from pipeline.retraining.history import Record

MODEL = "ct-to-mr"


@pytest.mark.parametrize(
    ("promoted", "before", "now", "outcome", "said"),
    [
        (True, None, "mine", "promoted", "ct-to-mr promoted"),
        (True, "other", "mine", "promoted", "ct-to-mr promoted"),
        (True, "mine", "mine", "repeated", "whose decision stands"),
        (True, "other", "other", "repeated", "whose decision stands"),
        (False, "other", "other", "refused", "ct-to-mr not promoted (failed: no collapse)"),
        (False, None, None, "refused", "ct-to-mr not promoted (failed: no collapse)"),
    ],
)
def test_promoted_means_champion_by_this_retraining(
    tmp_path: Path, promoted: bool, before: str | None, now: str | None, outcome: str, said: str
) -> None:
    check = {"name": "spread", "passed": promoted, "measured": 0.5, "limit": 0.3}
    decision = {"promoted": promoted, "mode": "auto", "checks": [check]}
    file = tmp_path / paths.VERSIONS_JSON
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({MODEL: {"decision": decision, "weights": "mine", "champion": now}}))
    record = Record("retrain-1", "2026-01-01T00:00:00+00:00", "always", stages=[{"stage": "register", "outcome": "ran", "seconds": 1.0}])
    champions = [{MODEL: digest} if digest else {} for digest in (before, now)]
    summary.read_results(tmp_path, record, *champions)
    assert record.outcome == outcome
    assert said in summary.headline(record)
    assert record.decisions[MODEL]["champion"] == (now == "mine")
