"""What must hold of a data set beyond its single slices, decided by Great Expectations: distributions, and relations between tables.

What judging a slice by itself has just made true (quality.py) is not asserted again.
"""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.dataset import expectations
from pipeline.dataset.drift import MEASURES, values_of
from pipeline.dataset.expectations import FAILING, WARNING, Expectation, among, between
from pipeline.dataset.quality import OK, shares
from pipeline.domain import MODALITIES
from pipeline.params import Quality
from pipeline.sources.provenance import Provenance

LIKELY_CT = 0.5  # of `ct_likelihood`: the middle of the scale
BULK = (0.01, 0.99)  # quantiles of reference data between which the median of like data lies


def check(
    judged: pd.DataFrame,
    pairs: list[dict[str, str]],
    source: Provenance | None,
    quality: Quality,
    reference: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Results for the judged manifest, the lines of pairs.csv, what download says it brought, and statistics of reference data.

    Severity critical fails the stage; warnings are shown in the report.
    """
    sound = judged[judged["status"] == OK]
    return [
        *_modalities(judged, source, quality),
        *_appearance(sound, quality),
        *_patients(sound),
        *_pairs(judged, pairs),
        *(_reference(sound, reference) if reference else []),
    ]


def _modalities(judged: pd.DataFrame, source: Provenance | None, quality: Quality) -> list[dict[str, Any]]:
    share = shares(judged)
    table = pd.DataFrame({"modality": list(share), "quarantined": list(share.values())})
    held = [between("quarantined", "few slices are quarantined", high=quality.max_quarantined)]
    if source:
        files = judged.drop_duplicates("path").groupby("modality")["files"].sum()
        table["files"] = [int(files[modality]) for modality in table["modality"]]
        table["downloaded"] = [source.counts[modality] for modality in table["modality"]]
        columns = {"column_A": "files", "column_B": "downloaded", "or_equal": True}
        held.append(Expectation("ColumnPairValuesAToBeGreaterThanB", "no file that was downloaded is missing", columns))
    return expectations.check("modalities", table, held)


def _appearance(sound: pd.DataFrame, quality: Quality) -> list[dict[str, Any]]:
    """Whether slices as a whole look like what they are said to be; of those alone whose file does not say it."""
    results = []
    for modality in MODALITIES:
        mine = sound[sound["modality"] == modality]
        if mine.empty:
            continue
        framed = f"heads fill the {modality.upper()} pictures, and have air around them"
        held = [between("head_share", framed, 0.15, 0.95, WARNING, of="Median")]
        if modality == "mr":
            held.append(between("saturated", "few MR pixels at white", high=0.2, severity=WARNING, of="Mean"))
        results += expectations.check(f"sound {modality.upper()} slices", mine, held)
        silent = mine[mine["file_modality"] == ""]
        if len(silent) and quality.wrong_modality < 1:
            low, high = (LIKELY_CT, None) if modality == "ct" else (None, LIKELY_CT)
            meaning = f"most pictures in {modality}/ look like {modality.upper()} (are the folders exchanged?)"
            likely = between("ct_likelihood", meaning, low, high, of="Median")
            results += expectations.check(f"{modality.upper()} slices that do not say what they are", silent, [likely])
    return results


def _patients(sound: pd.DataFrame) -> list[dict[str, Any]]:
    """One patient with most of the slices would be most of what is learned, or most of the score."""
    known = sound[sound["group_key"] != ""]
    if known["group_key"].nunique() < 3:
        return []
    share = known.groupby(["modality", "group_key"]).size() / known.groupby("modality").size()
    most = between("share", "no patient has most slices of a modality", high=0.5, severity=WARNING)
    return expectations.check("patients", share.rename("share").reset_index(), [most])


def _pairs(judged: pd.DataFrame, pairs: list[dict[str, str]]) -> list[dict[str, Any]]:
    if not pairs:
        return []
    listed, sound = set(judged["path"]), set(judged.loc[judged["status"] == OK, "path"])
    readable = listed - set(judged.loc[judged["complaint"] != "", "path"])
    matched = set(judged.loc[judged["pair"] >= 0, "path"])
    table = pd.DataFrame({"pair": [f"{pair['ct']} and {pair['mr']}" for pair in pairs]})
    table["place"] = [pair.get("place", "test") for pair in pairs]
    for name, paths in (("listed", listed), ("sound", sound), ("matched", matched), ("readable", readable)):
        table[name] = [{pair["ct"], pair["mr"]} <= paths for pair in pairs]
    there = among("listed", "pairs.csv names files that are there", [True])
    fit = among("sound", "both pictures of a pair are fit for use", [True], WARNING)
    results = expectations.check("pairs", table, [there, fit])
    for place, severity in (("test", FAILING), ("any", WARNING)):
        mine = table[(table["place"] == place) & table["readable"]]
        if len(mine):
            meaning = "the volumes of a pair share places in the patient" + ("" if place == "test" else ", those found by the layout")
            results += expectations.check("pairs", mine, [among("matched", meaning, [True], severity)])
    return results


def _reference(sound: pd.DataFrame, reference: dict[str, Any]) -> list[dict[str, Any]]:
    """Bounds of drift: the median of each measure lies in the bulk of the reference data."""
    results = []
    for modality in MODALITIES:
        mine, before = sound[sound["modality"] == modality], reference[modality]
        if mine.empty or not before["slices"]:
            continue
        table = pd.DataFrame({name: values_of(mine, name) for name in MEASURES})
        held = []
        for name, meaning in MEASURES.items():
            low, high = (float(bound) for bound in np.quantile(before["measures"][name], BULK))
            bulk = f"{modality.upper()} lies in the bulk of the reference: {meaning}"
            held.append(between(name, bulk, low, high, WARNING, of="Median"))
        results += expectations.check(f"{modality.upper()} against the reference", table, held)
    return results
