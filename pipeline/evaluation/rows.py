"""All scores of some slices, of the model and of the baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import metrics, structure, tissues
from pipeline.evaluation.level import level_of
from pipeline.evaluation.slices import Part
from pipeline.models.generator import Generator
from pipeline.models.uncertainty import doubt

MODEL = "model"

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Methods:
    """What makes pictures of source slices: the generators there and back, and the baselines by name."""

    direction: str
    there: Generator
    back: Generator
    trivial: Mapping[str, Callable[[Images], Images]]


def rows_of(methods: Methods, part: Part, made: Images, returned: Images, doubted: set[int]) -> list[dict[str, Any]]:
    """A row a slice and method of one part. `doubted`: rows of the store whose doubt is worked out."""
    rows = []
    outcomes = {MODEL: made} | ({name: method(part.images) for name, method in methods.trivial.items()} if part.known.any() else {})
    asked = [i for i, row in enumerate(part.rows["row"]) if row in doubted]
    contrast = [part.contrast[i] for i in asked]
    doubts = doubt(methods.there, part.images[asked], contrast, len(asked), made[asked]) if asked else ()
    wavers = dict(zip(asked, doubts, strict=True))
    for i, row in enumerate(part.rows.to_dict("records")):
        facts = {"direction": methods.direction, "slice_id": row["slice_id"], "group": str(row["group"]), "contrast": part.contrast[i]}
        ct = part.images[i] if methods.direction == "ct_to_mr" else part.truth[i] if part.known[i] else None
        facts["level"] = level_of(ct) if ct is not None else ""
        inside = metrics.inside_head(part.images[i], part.truth[i])
        for method, images in outcomes.items():
            scores: dict[str, float] = {}
            if part.known[i]:
                scores = metrics.against_truth(images[i], part.truth[i], inside)
                if methods.direction == "mr_to_ct":
                    scores |= tissues.tissue_dice(images[i], part.truth[i], inside)
                    if np.isfinite(part.hounsfield[i]):
                        scores["mae_hu"] = scores["mae"] * part.hounsfield[i]
            if method == MODEL:
                scores |= metrics.back_again(returned[i], part.images[i]) | structure.kept(part.images[i], made[i])
                if i in wavers:
                    scores["doubt_correlation"] = metrics.correlation(wavers[i], np.abs(made[i] - part.truth[i]), inside)
            if scores:
                rows.append({**facts, "method": method, **scores})
    return rows
