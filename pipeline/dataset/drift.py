"""Has the data changed since a reference model was trained? Two-sample tests per modality, corrected for their number, with effect sizes.

`statistics` condenses a manifest to what later comparisons need; validate writes it to reports/quality/statistics.json. A copy kept with a
trained model is what `quality.drift_reference` names.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import duplicates

MEASURES = {
    "size": "side of the picture, pixels (geometric mean)",
    "brightness": "mean of the picture as displayed",
    "spread": "contrast: standard deviation of the picture",
    "sharpness": "standard deviation of the Laplacian inside the head",
    "head_share": "share of the picture that the head covers",
}
NEIGHBOUR = "hash_distance"
NEIGHBOUR_MEANING = "bits to the most similar reference picture (perceptual hash)"
KEPT = 1000  # slices kept per modality: evenly spread quantiles of each measure, and so many hashes
ALPHA = 0.01  # family-wise error rate, after Holm's correction
LARGE = 0.33  # Cliff's delta from which a difference counts: "medium" by Romano et al. 2006


def statistics(manifest: pd.DataFrame) -> dict[str, Any]:
    """Per modality: number of sound slices, sorted values of each measure and perceptual hashes, at most KEPT of each."""
    found = {}
    for modality in paths.MODALITIES:
        mine = manifest[(manifest["status"] == "ok") & (manifest["modality"] == modality)]
        measures = {name: np.round(_thin(np.sort(values_of(mine, name))), 5).tolist() for name in MEASURES}
        hashes = mine.sort_values("sha256")["phash"].to_numpy()
        found[modality] = {"slices": len(mine), "measures": measures, "hashes": _thin(hashes).tolist()}
    return found


def compare(manifest: pd.DataFrame, reference: dict[str, Any]) -> dict[str, Any]:
    """Tests of the sound slices of `manifest` against the `statistics` of reference data.

    Kolmogorov-Smirnov decides whether a distribution differs (p-values corrected by Holm's method over all tests), Cliff's delta says by
    how much and which way: the chance that a new value is larger minus the chance that it is smaller, -1..1. A measure has drifted when
    both are beyond ALPHA and LARGE.
    """
    from scipy import stats

    current = statistics(manifest)
    compared = []
    for modality in paths.MODALITIES:
        new, old = current[modality], reference[modality]
        if not new["slices"] or not old["slices"]:
            continue
        samples = {name: (new["measures"][name], old["measures"][name]) for name in MEASURES}
        samples[NEIGHBOUR] = (_nearest(new["hashes"], old["hashes"]), _nearest(old["hashes"], old["hashes"], itself=False))
        compared += [(modality, name, values, before) for name, (values, before) in samples.items()]
    p_values = np.array([stats.ks_2samp(values, before, method="asymp").pvalue for _, _, values, before in compared])
    tests = []
    for (modality, name, values, before), p, corrected in zip(compared, p_values, _holm(p_values), strict=True):
        delta = round(float(np.sign(np.subtract.outer(values, before)).mean()), 4)
        tests.append(
            {
                "modality": modality,
                "measure": name,
                "meaning": MEASURES.get(name, NEIGHBOUR_MEANING),
                "median": round(float(np.median(values)), 4),
                "reference_median": round(float(np.median(before)), 4),
                "p": float(f"{p:.3g}"),
                "p_corrected": float(f"{corrected:.3g}"),
                "delta": delta,
                # Nearer neighbours are no drift: they are what the same data, or more of it, has.
                "drifted": bool(corrected < ALPHA and (delta if name == NEIGHBOUR else abs(delta)) > LARGE),
            }
        )
    return {"drifted": any(test["drifted"] for test in tests), "tests": tests}


def values_of(slices: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """One of MEASURES for each of some slices of the manifest."""
    values = np.sqrt(slices["height"] * slices["width"]) if name == "size" else slices[name]
    return np.asarray(values, np.float64)


def _thin(values: NDArray[Any]) -> NDArray[Any]:
    """At most KEPT of the values, evenly spread over their order."""
    return values[np.linspace(0, len(values) - 1, KEPT).round().astype(int)] if len(values) > KEPT else values


def _nearest(hashes: list[str], reference: list[str], *, itself: bool = True) -> list[int]:
    """Bits from each hash to the nearest of `reference`; not `itself`: `hashes` are the reference, and none is its own neighbour."""
    ours, theirs = (np.packbits(duplicates.hash_bits(some), axis=1).view(np.uint64) for some in (hashes, reference))
    nearest = []
    for number, hash_ in enumerate(ours):
        apart = np.bitwise_count(theirs ^ hash_).sum(axis=1, dtype=np.int64)
        if not itself:
            apart[number] = duplicates.HASH_BITS
        nearest.append(int(apart.min()))
    return nearest


def _holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down correction: family-wise error without assuming independence."""
    order, corrected = np.argsort(p_values), np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(p_values), 0, -1) * p_values[order]))
    return corrected
