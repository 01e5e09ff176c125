"""Has the data changed since a reference model was trained? Two-sample tests per modality, corrected for their number, with effect sizes.

`statistics` condenses a manifest to what later comparisons need; validate writes it to reports/quality/statistics.json. A copy kept with a
trained model is what `quality.drift_reference` names.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import duplicates

if TYPE_CHECKING:
    import pandas as pd

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


def statistics(manifest: "pd.DataFrame") -> dict[str, Any]:
    """Per modality: number of sound slices, sorted values of each measure and perceptual hashes, at most KEPT of each."""
    found = {}
    for modality in paths.MODALITIES:
        mine = manifest[(manifest["status"] == "ok") & (manifest["modality"] == modality)]
        measures = {name: np.round(_thin(np.sort(values_of(mine, name))), 5).tolist() for name in MEASURES}
        hashes = mine.sort_values("sha256")["phash"].to_numpy()
        found[modality] = {"slices": len(mine), "measures": measures, "hashes": _thin(hashes).tolist()}
    return found


def compare(manifest: "pd.DataFrame", reference: dict[str, Any]) -> dict[str, Any]:
    """Tests of the sound slices of `manifest` against the `statistics` of reference data.

    Kolmogorov-Smirnov decides whether a distribution differs (p-values corrected by Holm's method over all tests), Cliff's delta says by
    how much and which way: the chance that a new value is larger minus the chance that it is smaller, -1..1. A measure has drifted when
    both are beyond ALPHA and LARGE.
    """
    from scipy import stats

    current = statistics(manifest)
    tests = []
    for modality in paths.MODALITIES:
        new, old = current[modality], reference[modality]
        if not new["slices"] or not old["slices"]:
            continue
        samples = {name: (new["measures"][name], old["measures"][name]) for name in MEASURES}
        samples[NEIGHBOUR] = (_nearest(new["hashes"], old["hashes"]), _nearest(old["hashes"], old["hashes"], itself=False))
        for name, (values, before) in samples.items():
            tests.append(
                {
                    "modality": modality,
                    "measure": name,
                    "meaning": MEASURES.get(name, NEIGHBOUR_MEANING),
                    "median": round(float(np.median(values)), 4),
                    "reference_median": round(float(np.median(before)), 4),
                    "p": float(stats.ks_2samp(values, before, method="asymp").pvalue),
                    "delta": round(_cliffs_delta(np.array(values), np.array(before)), 4),
                }
            )
    for test, corrected in zip(tests, _holm([float(str(test["p"])) for test in tests]), strict=True):
        test["p"], test["p_corrected"] = float(f"{test['p']:.3g}"), float(f"{corrected:.3g}")
        delta = float(str(test["delta"]))
        # Nearer neighbours are no drift: they are what the same data, or more of it, has.
        test["drifted"] = corrected < ALPHA and (delta if test["measure"] == NEIGHBOUR else abs(delta)) > LARGE
    return {"drifted": any(test["drifted"] for test in tests), "tests": tests}


def values_of(slices: "pd.DataFrame", name: str) -> NDArray[np.float64]:
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


def _cliffs_delta(values: NDArray[np.float64], before: NDArray[np.float64]) -> float:
    before = np.sort(before)
    smaller, not_larger = np.searchsorted(before, values, "left"), np.searchsorted(before, values, "right")
    return float((smaller.sum() - (len(before) - not_larger).sum()) / (len(values) * len(before)))


def _holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: family-wise error without assuming independence."""
    order = np.argsort(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected
