"""Which slices are fit for use: one reason each for those that are not."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import params, paths

if TYPE_CHECKING:
    import pandas as pd

OK, QUARANTINED = "ok", "quarantined"


def judge(manifest: "pd.DataFrame", quality: params.Quality) -> "pd.DataFrame":
    """`manifest` with status and reason filled; the first reason that applies counts.

    Of slices with the same pixels one stays: a paired one before others, then the first by slice_id.
    """
    import pandas as pd

    sides = manifest[["height", "width"]]
    readable = (manifest["complaint"] == "").to_numpy()
    aspect = (sides.max(axis=1) / sides.min(axis=1).clip(lower=1)).to_numpy()
    checks = {
        "truncated": manifest["complaint"].str.startswith("truncated:").to_numpy(),
        "unreadable": ~readable,
        "too small": (sides.min(axis=1) < quality.min_side).to_numpy(),
        "extreme aspect": aspect > quality.max_aspect,
        "blank": (manifest["spread"] < quality.min_contrast).to_numpy(),
        "no head": (manifest["head_share"] == 0).to_numpy(),
    }
    reason = np.select(list(checks.values()), list(checks), default="").astype(object)
    order = np.lexsort((manifest["slice_id"].to_numpy(), (manifest["pair"] < 0).to_numpy()))
    shas = manifest["sha256"].to_numpy()
    candidates = pd.Series(shas[order]).where(reason[order] == "")
    copies = candidates.notna() & candidates.duplicated()
    reason[order[copies.to_numpy()]] = "exact duplicate"
    return manifest.assign(status=np.where(reason == "", OK, QUARANTINED), reason=reason)


def shares(judged: "pd.DataFrame") -> dict[str, float]:
    """Share of each modality's slices that are quarantined."""
    return {str(modality): float(share) for modality, share in (judged["status"] == QUARANTINED).groupby(judged["modality"]).mean().items()}


def complaint(judged: "pd.DataFrame", quality: params.Quality, broken: list[dict[str, Any]]) -> str:
    """One line that says why the data is not fit for use, and where to look."""
    where = f"see {paths.QUALITY_FAILED}/index.html"
    for modality, share in shares(judged).items():
        if share > quality.max_quarantined:
            reasons = judged.loc[(judged["modality"] == modality) & (judged["reason"] != ""), "reason"].value_counts()
            most = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
            return (
                f"{share:.0%} of the {str(modality).upper()} slices are unfit ({most}), more than quality.max_quarantined = "
                f"{quality.max_quarantined:g}; mend the images or the thresholds in params.yaml: {where}"
            )
    first = broken[0]
    return f"expectation not met: {first['meaning']} ({first['table']}.{first['column']}, {first['unexpected']} unexpected); {where}"
