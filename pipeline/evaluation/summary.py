"""From rows to figures: means with intervals, and paired differences to the baselines."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import params
from pipeline.errors import UserError
from pipeline.evaluation import compare, metrics
from pipeline.evaluation.level import LEVELS
from pipeline.evaluation.rows import MODEL
from pipeline.evaluation.score import Scored

if TYPE_CHECKING:
    import pandas as pd


def table(scored: list[Scored]) -> "pd.DataFrame":
    """All rows of all directions."""
    import pandas as pd

    return pd.DataFrame([row for one in scored for row in one.rows])


def summary(rows: "pd.DataFrame", rules: params.Evaluate) -> dict[str, float]:
    """Mean of every score over groups, with `_low` and `_high` of its 95 % interval; scores that no slice has are left out."""
    found: dict[str, float] = {}
    for name in [column for column in rows.columns if rows[column].dtype == np.float64]:
        result = compare.interval(rows[name].to_numpy(), rows["group"].tolist(), rules.bootstrap, rules.seed)
        if result is not None:
            found |= dict(zip((name, f"{name}_low", f"{name}_high"), result, strict=True))
    return found


def _counted(rows: "pd.DataFrame", rules: params.Evaluate) -> dict[str, float]:
    return summary(rows, rules) | {"slices": len(rows)}


def figures(scored: list[Scored], rows: "pd.DataFrame", rules: params.Evaluate) -> dict[str, Any]:
    """What metrics.json holds but the lesions: scores of model and baselines, paired differences, the model's by contrast and level.

    Raises UserError where no test slice shows a head.
    """
    content: dict[str, Any] = {"test": {}, "baselines": {}, "per_contrast": {}, "per_level": {}, "difference": {}, "undefined": {}}
    for one in scored:
        mine = rows[rows["direction"] == one.direction]
        model = mine[mine["method"] == MODEL]
        content["test"][one.direction] = summary(model, rules) | ({"spread": one.spread} if one.spread is not None else {})
        if not {"mae", "cycle_mae"} & set(content["test"][one.direction]):
            raise UserError(f"{one.direction}: no test slice has a pixel brighter than {metrics.HEAD}, so there is nothing to score")
        for method, name in sorted((row["method"], name) for row in one.rows for name, value in row.items() if value != value):
            counts = content["undefined"].setdefault(one.direction, {}).setdefault(method, {})
            counts[name] = counts.get(name, 0) + 1
        content["test"][one.direction] |= one.texture | {"slices": len(model), "groups": int(model["group"].nunique())}
        known = sorted(set(model["contrast"]) - {""})
        content["per_contrast"][one.direction] = {name: _counted(model[model["contrast"] == name], rules) for name in known}
        levels = [name for name in LEVELS if name in set(model["level"])]
        content["per_level"][one.direction] = {name: _counted(model[model["level"] == name], rules) for name in levels}
        for method in sorted(set(mine["method"]) - {MODEL}):
            theirs = mine[mine["method"] == method]
            content["baselines"].setdefault(method, {})[one.direction] = summary(theirs, rules)
            content["difference"].setdefault(method, {})[one.direction] = _difference(model, theirs, rules)
    return content


def _difference(model: "pd.DataFrame", other: "pd.DataFrame", rules: params.Evaluate) -> dict[str, Any]:
    """Model minus baseline on the same slices, score by score, with the verdict."""
    both = model.merge(other, on="slice_id", suffixes=("", "_other"))
    content: dict[str, Any] = {}
    for name in metrics.SCORES:
        values = (both[name] - both[f"{name}_other"]).to_numpy()
        result = compare.interval(values, both["group"].tolist(), rules.bootstrap, rules.seed)
        if result is not None:
            groups = len(compare.group_means(values, both["group"].tolist()))
            content |= dict(zip((name, f"{name}_low", f"{name}_high"), result, strict=True))
            content[f"{name}_verdict"] = compare.verdict(result, name == "mae", groups)
    return content
