"""Which slices are fit for use: one reason each for those that are not."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import params, paths

OK, QUARANTINED = "ok", "quarantined"
BURNED_IN = "burned-in text"  # by the header; what pictures look like is a warning
BELOW = "below the teeth"  # a reason that is no fault of the data: whole heads come with their necks


def judge(manifest: pd.DataFrame, quality: params.Quality) -> pd.DataFrame:
    """`manifest` with status, reason (the first that applies) and warning filled.

    Of slices with the same pixels one stays: a paired one before others, then the first by slice_id.
    """
    sides = manifest[["height", "width"]]
    readable = (manifest["complaint"] == "").to_numpy()
    aspect = (sides.max(axis=1) / sides.min(axis=1).clip(lower=1)).to_numpy()
    checks = {
        "truncated": manifest["complaint"].str.startswith("truncated:").to_numpy(),
        BURNED_IN: manifest["complaint"].str.startswith(f"{BURNED_IN}:").to_numpy(),
        "unreadable": ~readable,
        "too small": (sides.min(axis=1) < quality.min_side).to_numpy(),
        "extreme aspect": aspect > quality.max_aspect,
        "blank": (manifest["spread"] < quality.min_contrast).to_numpy(),
        "inverted": (manifest["border"] > quality.max_border).to_numpy(),
        "no head": (manifest["head_share"] == 0).to_numpy(),
        BELOW: manifest["below"].to_numpy(),
        "colour overlay": (manifest["colour"] > quality.max_colour).to_numpy(),
        "saturated": ((manifest["modality"] == "mr") & (manifest["saturated"] > quality.max_saturated)).to_numpy(),
        "wrong modality": _misplaced(manifest, quality.wrong_modality),
    }
    reason = np.select(list(checks.values()), list(checks), default="").astype(object)
    order = np.lexsort((manifest["slice_id"].to_numpy(), (manifest["pair"] < 0).to_numpy()))
    shas = manifest["sha256"].to_numpy()
    candidates = pd.Series(shas[order]).where(reason[order] == "")
    copies = candidates.notna() & candidates.duplicated()
    reason[order[copies.to_numpy()]] = "exact duplicate"
    marked = np.where(manifest["marks"] >= quality.warn_marks, "burned-in text or ruler", "")
    warning = np.where(manifest["faults"] != "", manifest["faults"], marked)
    return manifest.assign(status=np.where(reason == "", OK, QUARANTINED), reason=reason, warning=np.where(reason == "", warning, ""))


def _misplaced(manifest: pd.DataFrame, sure: float) -> NDArray[np.bool_]:
    """Slices of the other modality than their folder's: by what the file says, else by their looks where those are at least `sure`."""
    is_ct = (manifest["modality"] == "ct").to_numpy()
    likelihood = manifest["ct_likelihood"].to_numpy()
    says = manifest["file_modality"].to_numpy()
    by_looks = np.where(is_ct, 1 - likelihood, likelihood) > sure
    return np.asarray(np.where(says == "", by_looks, says != manifest["modality"].to_numpy()))


def shares(judged: pd.DataFrame) -> dict[str, float]:
    """Share of each modality's slices that are quarantined, of those that are not BELOW."""
    counted = judged[judged["reason"] != BELOW]
    unfit = counted["status"] == QUARANTINED
    return {str(modality): float(share) for modality, share in unfit.groupby(counted["modality"]).mean().items()}


def complaint(judged: pd.DataFrame, quality: params.Quality, broken: list[dict[str, Any]]) -> str:
    """One line that says why the data is not fit for use, and where to look."""
    where = f"see {paths.QUALITY_FAILED}/index.html"
    for modality, share in shares(judged).items():
        if share > quality.max_quarantined:
            reasons = judged.loc[(judged["modality"] == modality) & (judged["reason"] != ""), "reason"].value_counts()
            most = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            told = judged[(judged["modality"] == modality) & (judged["complaint"] != "")]
            example = f"; {told['path'].iloc[0]}: {told['complaint'].iloc[0].partition(': ')[2]}" if len(told) else ""
            return (
                f"{share:.0%} of the {str(modality).upper()} slices are unfit ({most}{example}), more than quality.max_quarantined = "
                f"{quality.max_quarantined:g}; mend the images or the thresholds in params.yaml: {where}"
            )
    first = broken[0]
    return f"expectation not met: {first['meaning']} ({first['table']}.{first['column']}, {first['unexpected']} unexpected); {where}"
