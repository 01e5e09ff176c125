"""Every test slice translated and scored, beside the baselines; means with intervals out of that."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.evaluation import compare, metrics, structure, texture, tissues
from pipeline.evaluation.baselines import baselines
from pipeline.evaluation.slices import parts
from pipeline.models.bundle import load_generator, translate
from pipeline.models.uncertainty import doubt

if TYPE_CHECKING:
    import pandas as pd

MODEL = "model"


@dataclass
class Spread:
    """Standard deviation of each pixel over many slices, without holding them: how much translations differ from each other."""

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0

    def add(self, images: NDArray[np.float32]) -> None:
        self.count += len(images)
        self.total = self.total + images.sum(0, dtype=np.float64)
        self.squares = self.squares + np.square(images, dtype=np.float64).sum(0)

    def mean(self) -> float:
        variance = self.squares / self.count - np.square(self.total / self.count)
        return float(np.sqrt(np.maximum(variance, 0)).mean())


@dataclass
class Scored:
    """One direction: a row a slice and method; spread of translations relative to real target slices, distances to these in texture.

    `undefined` counts, by method and score, the slices on which a score has no meaning (the correlation with a constant truth, say).
    """

    direction: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    spread: float | None = None
    texture: dict[str, float] = field(default_factory=dict)
    undefined: Counter[tuple[str, str]] = field(default_factory=Counter)


def score(
    direction: str, rules: params.Evaluate, slices: Path = paths.SLICES, models: Path = paths.MODELS, training: Path = paths.SLICES
) -> Scored:
    """Translate and score the test slices of `direction` in the store `slices`; baselines learn from the store `training`.

    Memory does not grow with the number of slices.
    """
    there = load_generator(models, direction)
    back = load_generator(models, "_to_".join(reversed(direction.split("_to_"))))
    trivial = baselines(direction, training)
    found, made_spread = Scored(direction), Spread()
    made_texture, source_texture = [], []
    for part in parts(direction, rules.batch_size, slices):
        made = translate(there, part.images, part.contrast, rules.batch_size)
        returned = translate(back, made, part.contrast, rules.batch_size)
        if not (np.isfinite(made).all() and np.isfinite(returned).all()):
            raise UserError(f"{models}: translations {direction} or back hold NaN, so training has diverged; lower train.learning_rate")
        made_spread.add(made)
        made_texture.append(texture.features(made))
        source_texture.append(texture.features(part.images))
        wavers = doubt(there, part.images, part.contrast, rules.batch_size) if part.known.any() else None
        outcomes = {MODEL: made} | ({name: method(part.images) for name, method in trivial.items()} if part.known.any() else {})
        deep = {name: metrics.multi_scale_ssim(images, part.truth) for name, images in outcomes.items()} if part.known.any() else {}
        for i, row in enumerate(part.rows.to_dict("records")):
            facts = {"direction": direction, "slice_id": row["slice_id"], "group": str(row["group"]), "contrast": part.contrast[i]}
            inside = metrics.inside_head(part.images[i], part.truth[i])
            for method, images in outcomes.items():
                scores: dict[str, float] = {}
                if part.known[i]:
                    scores = metrics.against_truth(images[i], part.truth[i], inside) | {"whole_ms_ssim": float(deep[method][i])}
                    if direction == "mr_to_ct":
                        scores |= tissues.tissue_dice(images[i], part.truth[i], inside)
                        if np.isfinite(part.hounsfield[i]):
                            scores["mae_hu"] = scores["mae"] * part.hounsfield[i]
                if method == MODEL:
                    scores |= metrics.back_again(returned[i], part.images[i]) | structure.kept(part.images[i], made[i])
                    if part.known[i] and wavers is not None:
                        scores["doubt_correlation"] = metrics.correlation(wavers[i], np.abs(made[i] - part.truth[i]), inside)
                if scores:
                    found.rows.append({**facts, "method": method, **scores})
                    found.undefined.update((method, name) for name, value in scores.items() if np.isnan(value))
    real_spread, real_texture = Spread(), []
    for part in parts("_to_".join(reversed(direction.split("_to_"))), rules.batch_size, slices):
        real_spread.add(part.images)
        real_texture.append(texture.features(part.images))
    found.spread = _relative(made_spread, real_spread)
    real = np.concatenate(real_texture)
    copied = texture.distances(np.concatenate(source_texture), real)
    found.texture = texture.distances(np.concatenate(made_texture), real) | {f"copy_{name}": value for name, value in copied.items()}
    return found


def _relative(made: Spread, real: Spread) -> float | None:
    """Spread of translations over that of the real test slices of the target modality; None where one slice tells nothing."""
    if made.count < 2 or real.count < 2 or real.mean() == 0:
        return None
    return made.mean() / real.mean()


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


def figures(scored: list[Scored], rows: "pd.DataFrame", rules: params.Evaluate) -> dict[str, Any]:
    """What metrics.json holds: test, baselines, per contrast, the model's paired difference to each baseline, what was undefined how often.

    Raises UserError where no test slice shows a head.
    """
    content: dict[str, Any] = {"test": {}, "baselines": {}, "per_contrast": {}, "difference": {}, "undefined": {}}
    for one in scored:
        mine = rows[rows["direction"] == one.direction]
        model = mine[mine["method"] == MODEL]
        content["test"][one.direction] = summary(model, rules) | ({"spread": one.spread} if one.spread is not None else {})
        if not {"mae", "cycle_mae"} & set(content["test"][one.direction]):
            raise UserError(f"{one.direction}: no test slice has a pixel brighter than {metrics.HEAD}, so there is nothing to score")
        for (method, name), count in sorted(one.undefined.items()):
            content["undefined"].setdefault(one.direction, {}).setdefault(method, {})[name] = count
        content["test"][one.direction] |= one.texture | {"slices": len(model), "groups": int(model["group"].nunique())}
        known = sorted(set(model["contrast"]) - {""})
        content["per_contrast"][one.direction] = {name: summary(model[model["contrast"] == name], rules) for name in known}
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
