"""Changed data is noticed, chance is not."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.dataset import drift, quality_report
from pipeline.errors import UserError


def manifest(count: int = 400, seed: int = 0, brighter: float = 0.0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"modality": np.where(np.arange(count) % 2, "ct", "mr"), "status": "ok"})
    table["sha256"] = [hashlib.sha256(f"{seed} {row}".encode()).hexdigest() for row in range(count)]
    table["phash"] = table["sha256"]
    table["height"], table["width"] = random.integers(200, 500, count), random.integers(200, 500, count)
    for name in ("brightness", "spread", "sharpness", "head_share"):
        table[name] = random.normal(0.3, 0.05, count)
    table.loc[table["modality"] == "mr", "brightness"] += brighter
    return table


@pytest.mark.parametrize("seed", range(1, 6))
def test_another_sample_of_the_same_data_has_not_drifted(seed: int) -> None:
    assert not drift.compare(manifest(seed=seed), drift.statistics(manifest()))["drifted"]


def test_brighter_mr_is_noticed_and_named() -> None:
    found = drift.compare(manifest(seed=1, brighter=0.1), drift.statistics(manifest()))
    assert found["drifted"]
    drifted = [(test["modality"], test["measure"]) for test in found["tests"] if test["drifted"]]
    assert drifted == [("mr", "brightness")]
    test = next(test for test in found["tests"] if test["drifted"])
    assert test["delta"] > 0.7
    assert test["median"] > test["reference_median"]
    assert test["p_corrected"] >= test["p"]


def test_the_reference_itself_and_more_of_the_same_have_not_drifted() -> None:
    table = manifest()
    assert not drift.compare(table, drift.statistics(table))["drifted"]
    grown = pd.concat([table, manifest(100, seed=2)], ignore_index=True)
    assert not drift.compare(grown, drift.statistics(table))["drifted"]


def test_pictures_unlike_any_before_have_drifted() -> None:
    alike = manifest()
    alike["phash"] = [f"{(1 << (row % 200)) | 1:064x}" for row in range(len(alike))]
    found = drift.compare(manifest(seed=1), drift.statistics(alike))
    assert {test["measure"] for test in found["tests"] if test["drifted"]} == {"hash_distance"}


def test_a_tiny_shift_in_much_data_is_no_drift() -> None:
    found = drift.compare(manifest(20_000, seed=1, brighter=0.01), drift.statistics(manifest(20_000)))
    assert not found["drifted"]


def test_statistics_stay_small() -> None:
    kept = drift.statistics(manifest(5000))
    assert kept["ct"]["slices"] == 2500
    assert len(kept["ct"]["hashes"]) == len(kept["ct"]["measures"]["size"]) == drift.KEPT


def test_the_page_and_the_file_say_the_same(tmp_path: Path) -> None:
    assert not quality_report.write_drift(tmp_path, manifest(), None, None)
    assert "nothing to compare with" in (tmp_path / "drift.html").read_text()
    (tmp_path / "statistics.json").rename(tmp_path / "reference.json")
    assert quality_report.write_drift(
        tmp_path, manifest(seed=1, brighter=0.1), quality_report.read_reference(str(tmp_path / "reference.json")), "reference.json"
    )
    assert "the data has changed" in (tmp_path / "drift.html").read_text()


@pytest.mark.parametrize(("content", "problem"), [(None, "no such file"), ("{}", "not the statistics"), ("no json", "not the statistics")])
def test_a_bad_reference_is_named_in_one_line(tmp_path: Path, content: str | None, problem: str) -> None:
    if content is not None:
        (tmp_path / "reference.json").write_text(content)
    with pytest.raises(UserError, match=problem):
        quality_report.read_reference(str(tmp_path / "reference.json"))
