"""Train, val and test by groups that belong together, so that no duplicate crosses, and so that new images never move old ones.

Groups are the connected components of: same patient or series, same pixels, near duplicates by perceptual hash, and (optionally) numbers
in a file name that lie in the same block. A group's place follows from a hash of its steadiest member; an earlier split of the same
parameters is kept slice by slice, and a new slice that would tie together groups of different splits is left out.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.dataset import duplicates
from pipeline.dataset.parquet_files import damage_said
from pipeline.errors import UserError

LEFT_OUT = ""
HISTORY = b"ctmr.history"


def choose_usable(manifest: pd.DataFrame, mr_contrast: str) -> pd.DataFrame:
    """The slices that are fit for use, MR ones only of contrast `mr_contrast` unless that is "any".

    Raises UserError when no MR slice has it.
    """
    ok = manifest["status"] == "ok"
    mr = manifest["modality"] == "mr"
    wanted = ok & (~mr | (manifest["contrast"] == mr_contrast)) if mr_contrast != "any" else ok
    if mr_contrast != "any" and not (wanted & mr).any():
        there = ", ".join(
            f"{count} {contrast or 'unknown'}" for contrast, count in manifest.loc[ok & mr, "contrast"].value_counts().items()
        )
        raise UserError(f"data.mr_contrast = {mr_contrast}: no MR slice has this contrast; there are {there}; choose one of these or any")
    return manifest[wanted].reset_index(drop=True)


def find_groups(manifest: pd.DataFrame, split: params.Split) -> NDArray[np.int64]:
    """Number of the group of each row of `manifest` (columns slice_id, sha256, phash, group_key, patient, pair)."""
    keys = [manifest["sha256"], manifest["group_key"], manifest["patient"], _find_blocks(manifest["slice_id"], split.neighbour_block)]
    links = [_link_equal(key) for key in keys]
    if split.pairs == "grouped":  # whose two files may tell nothing of their patient
        links.append(_link_equal(manifest["pair"].map(lambda pair: str(pair) if pair >= 0 else "")))
    links.append(_link_near(manifest["phash"], split.near_duplicate_bits))
    return duplicates.components(len(manifest), np.concatenate(links))


def assign(manifest: pd.DataFrame, split: params.Split, earlier: dict[str, str] | None = None) -> pd.DataFrame:
    """A table slice_id, split ("train", "val", "test", or "" for left out), group, in the order of `manifest`.

    `manifest` has the columns of data/manifest.parquet, sound slices only. `earlier` maps SHA-256 of pixels to the split that they had.
    Pairs that a person listed, and their groups, are always test, unless `split.pairs` is "grouped". Raises UserError when a split of a
    modality would be empty.
    """
    groups = find_groups(manifest, split)
    table = pd.DataFrame({"slice_id": manifest["slice_id"].to_numpy(), "sha256": manifest["sha256"].to_numpy(), "number": groups})
    table["modality"] = manifest["modality"].to_numpy()
    table["group"] = _name_groups(manifest, groups)
    chance = {group: _draw_chance(group, split.seed) for group in table["group"].unique()}
    table["chance"] = table["group"].map(chance)

    listed = (manifest["pair"] >= 0) & (manifest["pair_place"] == "test") & (split.pairs == "test")
    paired = pd.Series(listed.to_numpy()).groupby(groups).transform("any").to_numpy()
    from_test = manifest["source_split"].to_numpy() == "test"
    own_test = pd.Series(from_test).groupby(groups).transform("all").to_numpy() & split.keep_source_test
    source_decides = split.keep_source_test and bool(from_test.any())
    test_share = 0.0 if source_decides else split.test

    table["split"] = "train"
    table.loc[table["chance"] < split.val, "split"] = "val"
    table.loc[table["chance"] >= 1 - test_share, "split"] = "test"
    table.loc[own_test, "split"] = "test"
    table.loc[paired, "split"] = "test"
    _fill_empty(table, fixed=paired | own_test)
    if earlier:
        _keep_earlier(table, earlier)
    table.loc[paired, "split"] = "test"
    _check_none_empty(table, bool(paired.any()))
    kept = (table["split"] != LEFT_OUT).to_numpy()
    if not kept.all():  # without the images that tied them together, groups are apart again
        table.loc[kept, "group"] = _name_groups(manifest[kept], find_groups(manifest[kept], split))
    return table[["slice_id", "split", "group"]]


def _name_groups(manifest: pd.DataFrame, groups: NDArray[np.int64]) -> NDArray[Any]:
    """A name for the group of each row, from its steadiest member."""
    anchors = np.array([key or sha for key, sha in zip(manifest["group_key"], manifest["sha256"], strict=True)], object)
    return pd.Series(anchors).groupby(groups).transform("min").map(lambda anchor: _hash_text(anchor)[:16]).to_numpy()


def write(file: Path, manifest: pd.DataFrame, assigned: pd.DataFrame, split: params.Split) -> None:
    """data/split.parquet, with what `read_earlier` needs in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = assigned[assigned["split"] != LEFT_OUT]
    table = pa.Table.from_pandas(kept, preserve_index=False)
    places = dict(sorted(zip(manifest["sha256"], assigned["split"], strict=True)))
    history = {"params": split.model_dump(), "splits": {sha: name for sha, name in places.items() if name != LEFT_OUT}}
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), HISTORY: json.dumps(history).encode()}), file)


def read_earlier(file: Path, split: params.Split) -> dict[str, str]:
    """Split of each image (by SHA-256 of its pixels) as `file` holds it; empty without one, or when it was made with other params.

    Raises UserError where it is damaged: a new split would move images that models were trained on.
    """
    import pyarrow.parquet as pq

    if not file.is_file():
        return {}
    with damage_said(file, "split"):
        pq.read_table(file)
        history = json.loads((pq.read_schema(file).metadata or {}).get(HISTORY, b"{}"))
    before = {"pairs": "test", **history.get("params", {})}  # files from before there was a choice do not name it
    return dict(history["splits"]) if before == split.model_dump() else {}


def summarise(manifest: pd.DataFrame, assigned: pd.DataFrame, split: params.Split, understood: str = "") -> dict[str, Any]:
    """Counts of slices, groups and pairs per split, group sizes, and what a split by single images would have leaked.

    `understood`: what download read from paths about patients.
    """
    together = assigned.assign(modality=manifest["modality"].to_numpy())
    sizes = together.groupby("group").size()
    chances = np.array([_draw_chance(slice_id, split.seed) for slice_id in together["slice_id"]])
    naive = np.select([chances < split.val, chances >= 1 - split.test], ["val", "test"], "train")
    by_source = manifest["source_split"].to_numpy()
    kept = together[together["split"] != LEFT_OUT]
    pairs = manifest.loc[(together["split"] != LEFT_OUT) & (manifest["pair"] >= 0), "pair"]
    in_splits = {name: kept[kept["split"] == name] for name in paths.SPLITS}
    parts = {name: {modality: mine[mine["modality"] == modality] for modality in paths.MODALITIES} for name, mine in in_splits.items()}
    return {
        "slices": {name: {modality: len(part) for modality, part in mine.items()} for name, mine in parts.items()},
        "groups": {name: {modality: part["group"].nunique() for modality, part in mine.items()} for name, mine in parts.items()},
        "group_sizes": {str(size): count for size, count in sorted(Counter(int(size) for size in sizes).items())},
        "largest_group": int(sizes.max()),
        "patients": {
            "understood": understood,
            "told_by_path": int(manifest.loc[manifest["patient"] != "", "patient"].nunique()),
            "told_by_file": int(manifest.loc[manifest["group_key"] != "", "group_key"].nunique()),
            "slices_without": int(((manifest["patient"] == "") & (manifest["group_key"] == "")).sum()),
        },
        # Registered pairs with both sides in the split.
        "pairs": {name: int(pairs[pairs.index.isin(mine.index)].duplicated().sum()) for name, mine in in_splits.items()},
        "left_out": int((together["split"] == LEFT_OUT).sum()),
        "naive_random_split": _count_leaks(together["group"].to_numpy(), naive, together["modality"].to_numpy()),
        "source_own_split": _count_leaks(together["group"].to_numpy(), by_source, together["modality"].to_numpy()),
    }


def _count_leaks(groups: NDArray[Any], splits: NDArray[Any], modalities: NDArray[Any]) -> dict[str, dict[str, Any]]:
    """Per modality: how many test slices have a slice of their group outside test, were slices split as in `splits`."""
    outcome = {}
    for modality in paths.MODALITIES:
        mine, tested = modalities == modality, splits == "test"
        in_test = groups[mine & tested]
        outcome[modality] = {"test_slices": len(in_test), "leaked": int(np.isin(in_test, groups[mine & ~tested]).sum())}
    return outcome


def _fill_empty(table: pd.DataFrame, fixed: NDArray[np.bool_]) -> None:
    """Give an empty split, as few groups leave by chance, the group whose chance lies nearest to it, from the fullest split.

    Rows that are `fixed` stay where they are.
    """
    for modality in paths.MODALITIES:
        for name, last in (("val", False), ("test", True), ("train", False)):
            mine = table[(table["modality"] == modality).to_numpy()]
            free = mine[~fixed[mine.index]].drop_duplicates("group").sort_values("chance", ascending=not last)
            if (mine["split"] == name).any() or free.empty:
                continue
            counts = free["split"].value_counts()
            fullest = max(paths.SPLITS, key=lambda split: counts.get(split, 0))
            if counts[fullest] > 1:
                nearest = free.loc[free["split"] == fullest, "group"].iloc[0]
                table.loc[(table["group"] == nearest) & ~fixed, "split"] = name


def _keep_earlier(table: pd.DataFrame, earlier: dict[str, str]) -> None:
    """Slices keep the split that they had; new members of a group follow its old ones, or are left out where those disagree."""
    before = table["sha256"].map(earlier)
    known = before.dropna().groupby(table["number"]).agg(["nunique", "first"])
    agreed = known.loc[known["nunique"] == 1, "first"]
    torn = known.index[known["nunique"] > 1]
    table["split"] = table["number"].map(agreed).fillna(table["split"])
    table.loc[table["number"].isin(torn), "split"] = LEFT_OUT
    table["split"] = before.where(before.notna(), table["split"])


def _check_none_empty(table: pd.DataFrame, paired: bool) -> None:
    """Raises UserError where a split of a modality has no slices. `paired`: pairs are kept for testing, which the message says."""
    more = "; split.pairs = grouped trains on pairs too" if paired else ""
    for modality in paths.MODALITIES:
        mine = table[table["modality"] == modality]
        for name in paths.SPLITS:
            if not (mine["split"] == name).any():
                raise UserError(
                    f"split: no {modality.upper()} slices for {name}: {len(mine)} sound ones form {mine['group'].nunique()} groups, and at "
                    "least 3 that are not all paired are needed, since a patient stays in one split; add images, or see data.patient and "
                    f"split.near_duplicate_bits{more}"
                )


def _link_equal(keys: Any) -> NDArray[np.int64]:
    """Links (M, 2) between rows of equal, non-empty key: each row with the first one of its key."""
    first: dict[str, int] = {}
    found = [(first.setdefault(key, row), row) for row, key in enumerate(keys) if key]
    return np.array([link for link in found if link[0] != link[1]], np.int64).reshape(-1, 2)


def _link_near(hashes: Any, distance: int) -> NDArray[np.int64]:
    """Links (M, 2) between rows whose perceptual hashes are at most `distance` bits apart."""
    texts = np.array([text for text in hashes], object)
    rows = np.flatnonzero(texts != "")
    if rows.size == 0:
        return np.empty((0, 2), np.int64)
    unique, first, inverse = np.unique(texts[rows].astype(str), return_index=True, return_inverse=True)
    pairs = duplicates.near_pairs(duplicates.hash_bits(unique), distance)
    same = np.stack([rows[first][inverse], rows], axis=1)
    return np.concatenate([rows[first][pairs], same[same[:, 0] != same[:, 1]]])


def _find_blocks(slice_ids: Any, block: int) -> list[str]:
    """A key for slices of one folder whose last number lies in the same block of `block` numbers; empty for block 0 or without a number.

    Blocks, not distances: a chain of neighbours would tie a whole folder together.
    """
    keys = []
    for slice_id in slice_ids:
        match = re.fullmatch(r"(.*?)(\d+)(\D*)", slice_id) if block else None
        keys.append(f"{match[1]}|{int(match[2]) // block}|{match[3]}" if match else "")
    return keys


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _draw_chance(text: str, seed: int) -> float:
    """A number from 0 to below 1 that depends on nothing but the text and the seed; its 13 hexadecimal digits fit a float exactly."""
    return int(_hash_text(f"{seed}:{text}")[:13], 16) / 16**13
