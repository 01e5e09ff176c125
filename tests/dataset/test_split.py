"""Groups stay together, nothing ever moves, and no split is empty."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import split
from pipeline.errors import UserError
from pipeline.params import Split

PARAMS = Split(val=0.1, test=0.15, near_duplicate_bits=26, neighbour_block=0, keep_source_test=True, seed=0)


def manifest(count: int = 60, first: int = 0, **columns: object) -> pd.DataFrame:
    """Sound slices, half CT, half MR, all different; `columns` overrides."""
    names = [f"{'ct' if n % 2 else 'mr'}/{n}" for n in range(first, first + count)]
    table = pd.DataFrame({"slice_id": names})
    table["modality"] = [name[:2] for name in names]
    table["sha256"] = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    table["phash"] = table["sha256"]
    return table.assign(**{"group_key": "", "patient": "", "pair": -1, "pair_place": "test", "source_split": "", "status": "ok", **columns})


def near(phash: str, bits: int) -> str:
    """The hash with some bits flipped."""
    return f"{int(phash, 16) ^ ((1 << bits) - 1):064x}"


def places(table: pd.DataFrame, params: Split = PARAMS, earlier: dict[str, str] | None = None) -> dict[str, str]:
    return split.assign(table, params, earlier).set_index("slice_id")["split"].to_dict()


def test_every_split_of_every_modality_gets_about_its_share() -> None:
    table = manifest(4000)
    shares = pd.Series(places(table)).value_counts(normalize=True)
    assert shares["val"] == pytest.approx(0.1, abs=0.02)
    assert shares["test"] == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_few_groups_still_fill_every_split(seed: int) -> None:
    table = manifest(6)
    found = split.assign(table, PARAMS.model_copy(update={"seed": seed}))
    assert {(place, name[:2]) for place, name in zip(found["split"], found["slice_id"], strict=True)} == {
        (place, modality) for place in ("train", "val", "test") for modality in ("ct", "mr")
    }


def test_too_few_groups_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"no CT slices for \w+: 2 sound ones form 2 groups.*add images"):
        split.assign(manifest(4), PARAMS)


def test_same_key_same_pixels_and_near_duplicates_stay_together() -> None:
    table = manifest(80)
    table.loc[table.index[:20], "group_key"] = "patient"
    table.loc[30:35, "sha256"] = table.loc[30, "sha256"]
    table.loc[40, "phash"] = near(table.loc[41, "phash"], 26)
    table.loc[42, "phash"] = near(table.loc[43, "phash"], 27)
    groups = split.find_groups(table, PARAMS)
    assert len(set(groups[:20])) == 1
    assert len(set(groups[30:36])) == 1
    assert groups[40] == groups[41]
    assert groups[42] != groups[43]


def test_numbers_of_one_block_stay_together_when_asked() -> None:
    table = manifest(8).assign(slice_id=[f"ct/x{n}" for n in (0, 1, 9, 10, 11, 25)] + ["mr/x1", "mr/y1b"])
    groups = split.find_groups(table, PARAMS.model_copy(update={"neighbour_block": 10}))
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups.tolist())) == 5


def test_pairs_and_all_that_belongs_to_them_are_test() -> None:
    table = manifest(60)
    table.loc[[0, 1], "pair"] = 0
    table.loc[[1, 2, 3], "group_key"] = "subject"
    table.loc[5, "phash"] = near(table.loc[3, "phash"], 5)
    found = places(table)
    assert {found[table.loc[row, "slice_id"]] for row in (0, 1, 2, 3, 5)} == {"test"}


GROUPED = PARAMS.model_copy(update={"pairs": "grouped"})


def paired_patients(count: int, first: int = 0) -> pd.DataFrame:
    """Patients with two pairs of slices each, which only the pair ties together in every third of them."""
    table = manifest(4 * count, first)
    table["pair"] = first + np.arange(4 * count) // 2
    patient = pd.Series(first + np.arange(4 * count) // 4)
    return table.assign(patient=np.where(patient % 3 == 0, "", "p" + patient.astype(str)))


def test_patients_with_pairs_go_everywhere_and_none_crosses_when_pairs_are_grouped() -> None:
    table = paired_patients(40)
    found = split.assign(table, GROUPED)["split"]
    assert set(found) == {"train", "val", "test"}
    assert (found.groupby(table["pair"]).nunique() == 1).all()
    told = table["patient"] != ""
    assert (found[told].groupby(table["patient"][told]).nunique() == 1).all()
    assert set(split.assign(pd.concat([table, manifest(60, 5000)], ignore_index=True), PARAMS)["split"][:160]) == {"test"}
    counts = split.summarise(table, split.assign(table, GROUPED), GROUPED)["pairs"]
    assert sum(counts.values()) == 80
    assert min(counts.values()) > 0


def test_paired_patients_stay_where_they_are_when_others_come() -> None:
    old, new = paired_patients(20), paired_patients(15, first=1000)
    before = split.assign(old, GROUPED)
    both = pd.concat([new, old], ignore_index=True)
    both["pair"] = pd.factorize(both["pair"])[0]  # pairs are numbered anew in each manifest
    after = places(both, GROUPED, dict(zip(old["sha256"], before["split"], strict=True)))
    assert {name: after[name] for name in before["slice_id"]} == before.set_index("slice_id")["split"].to_dict()


def test_data_of_pairs_alone_says_how_it_can_be_split() -> None:
    with pytest.raises(UserError, match=r"split\.pairs = grouped trains on pairs too"):
        split.assign(paired_patients(20), PARAMS)


def test_the_sources_own_test_folder_is_kept_except_where_duplicates_contradict_it() -> None:
    table = manifest(200)
    table.loc[:39, "source_split"] = "test"
    table.loc[40:, "source_split"] = "train"
    table.loc[0, "phash"] = near(table.loc[100, "phash"], 3)
    found = places(table)
    tests = {name for name, place in found.items() if place == "test"}
    assert tests == set(table.loc[1:39, "slice_id"])
    ignored = places(table, PARAMS.model_copy(update={"keep_source_test": False}))
    assert {name for name, place in ignored.items() if place == "test"} != tests


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 120), st.integers(0, 10_000))
def test_new_images_never_move_old_ones(added: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    old, new = manifest(60), manifest(added, first=1000)
    for row in range(0, added, 3):  # a third of the new ones are near duplicates of old ones, or tie two together
        new.loc[row, "phash"] = near(old.loc[random.integers(60), "phash"], 10)
        new.loc[row, "group_key"] = str(random.integers(5))
    before = split.assign(old, PARAMS)
    history = dict(zip(old["sha256"], before["split"], strict=True))
    after = places(pd.concat([new, old], ignore_index=True), earlier=history)
    assert {name: after[name] for name in before["slice_id"]} == before.set_index("slice_id")["split"].to_dict()
    both = pd.concat([new, old], ignore_index=True)
    used = both[both["slice_id"].map(after) != split.LEFT_OUT]
    groups = split.find_groups(used.reset_index(drop=True), PARAMS)
    assert used["slice_id"].map(after).groupby(groups).nunique().max() == 1


def test_a_new_image_that_would_tie_two_splits_together_is_left_out() -> None:
    old = manifest(60)
    before = split.assign(old, PARAMS)
    history = dict(zip(old["sha256"], before["split"], strict=True))
    train, test = (before.loc[before["split"] == name].index[0] for name in ("train", "test"))
    bridge = manifest(1, first=999).assign(phash=old.loc[train, "phash"], sha256="new", group_key="p")
    old.loc[test, "group_key"] = "p"
    both = pd.concat([old, bridge], ignore_index=True)
    assert places(both, earlier=history)["ct/999"] == split.LEFT_OUT
    kept = split.assign(both, PARAMS, history).query("split != ''")
    assert (kept.groupby("group")["split"].nunique() == 1).all()


def test_the_history_is_kept_in_the_file_and_only_for_the_same_params(tmp_path: Path) -> None:
    table = manifest(60)
    assigned = split.assign(table, PARAMS)
    split.write(tmp_path / "split.parquet", table, assigned, PARAMS)
    earlier = split.read_earlier(tmp_path / "split.parquet", PARAMS)
    assert earlier == dict(zip(table["sha256"], assigned["split"], strict=True))
    assert split.read_earlier(tmp_path / "split.parquet", PARAMS.model_copy(update={"seed": 1})) == {}
    assert split.read_earlier(tmp_path / "split.parquet", GROUPED) == {}
    assert split.read_earlier(tmp_path / "none.parquet", PARAMS) == {}
    assert list(pd.read_parquet(tmp_path / "split.parquet").columns) == ["slice_id", "split", "group"]


def test_the_report_says_what_a_naive_split_would_have_leaked() -> None:
    table = manifest(400)
    table["group_key"] = [f"patient{n // 8}" for n in range(400)]
    report = split.summarise(table, split.assign(table, PARAMS), PARAMS)
    assert report["largest_group"] == 8
    assert report["group_sizes"] == {"8": 50}
    assert sum(sum(counts.values()) for counts in report["slices"].values()) == 400
    assert report["naive_random_split"]["ct"]["leaked"] > 20


def test_only_the_chosen_mr_contrast_is_used() -> None:
    table = manifest(60, contrast="")
    table.loc[table["modality"] == "mr", "contrast"] = ["t1", "t2"] * 15
    assert len(split.choose_usable(table, "any")) == 60
    chosen = split.choose_usable(table, "t2")
    assert (chosen["modality"] == "ct").sum() == 30
    assert chosen.loc[chosen["modality"] == "mr", "contrast"].tolist() == ["t2"] * 15
    with pytest.raises(UserError, match="no MR slice has this contrast; there are 15 t1, 15 t2"):
        split.choose_usable(table, "pd")
