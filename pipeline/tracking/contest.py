"""Challenger against champion: both translate the same test slices now, and a paired comparison says whether the challenger is worse.

Where test slices have truth, the error is the mean absolute difference to it inside the head; else what is left after there and back.
Slices of one group (patient, series, near duplicates) are not independent: a group counts once (pipeline.evaluation.intervals).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import params, paths
from pipeline.domain import Direction
from pipeline.errors import UserError
from pipeline.evaluation.batches import Batch, read_batches
from pipeline.evaluation.intervals import Verdict, compare
from pipeline.evaluation.similarity import inside_head, mae
from pipeline.serving.translator import Translator
from pipeline.tracking import registry, store
from pipeline.tracking.gate import Check

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

NAME = "not worse than the champion"

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A generator and the one of the same training that leads back."""

    there: Translator
    back: Translator


def judge(uri: str, direction: str, champion: "ModelVersion", rules: params.Evaluate) -> Check:
    """Whether models/ translates the test slices not worse than the registered `champion`; what prevents the comparison fails it."""
    try:
        mine = Pair(*(Translator.from_folder(paths.MODELS, one) for one in (direction, _opposite(direction))))
        theirs = Pair(*(Translator.from_folder(folder, one) for folder, one in _files(uri, direction, champion)))
        _comparable(mine.there.preprocess, theirs.there.preprocess)
        challenger, known, group = errors(mine, direction, rules.batch_size)
        other, _, _ = errors(theirs, direction, rules.batch_size)
    except UserError as error:
        return Check(NAME, False, f"not compared: {error}")
    if known.any():
        challenger, other, group = challenger[known], other[known], [one for one, has in zip(group, known, strict=True) if has]
    return verdict(challenger, other, group, champion.tags[registry.WEIGHTS][:8], rules)


def errors(
    pair: Pair, direction: str, batch_size: int, folder: Path = paths.SLICES
) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[str]]:
    """(mean absolute error of each test slice inside the head, whether truth is known, group).

    Where truth is known the error is that to the truth, else what is left after there and back. Raises UserError without test slices.
    """
    found: list[float] = []
    known: list[bool] = []
    group: list[str] = []
    for part in read_batches(Direction(direction), batch_size, folder):
        made = _translate(pair.there, part.images, part)
        returned = made if part.has_truth.all() else _translate(pair.back, made, part)
        for i, has_truth in enumerate(part.has_truth):
            wanted, got = (part.truth[i], made[i]) if has_truth else (part.images[i], returned[i])
            found.append(mae(got, wanted, inside_head(part.images[i], wanted)))
        known += part.has_truth.tolist()
        group += part.rows["group"].astype(str).tolist()
    return np.array(found), np.array(known), group


def verdict(
    challenger: NDArray[np.float64], champion: NDArray[np.float64], group: list[str], champion_name: str, rules: params.Evaluate
) -> Check:
    """Check of the difference of two errors of the same slices; fails only when the challenger is shown to be worse.

    Its `against`: the champion (first digits of its weights' digest), both errors, the difference with its interval and the verdict.
    """
    comparison = compare(challenger - champion, group, lower_is_better=True)
    if comparison is None:
        return Check(NAME, False, "not compared: no test slice has pixels inside a head")
    groups, said = comparison.groups, comparison.verdict
    difference = comparison.difference
    return Check(
        NAME,
        said is not Verdict.WORSE,
        f"{said}: error {np.nanmean(challenger):.4f}, champion {champion_name} {np.nanmean(champion):.4f} on the same {len(group)} slices"
        f" of {groups} groups, difference {difference}",
        {
            "champion": champion_name,
            "champion_error": float(np.nanmean(champion)),
            "error": float(np.nanmean(challenger)),
            **difference.as_scores("difference"),
            "verdict": said.value,
        },
    )


def _translate(translator: Translator, images: Images, part: Batch) -> Images:
    """Translate prepared slices; a model of another size gets and gives resized ones."""
    from pipeline.models.inference import translate

    made = translate(translator.generator, _resized(images, translator.preprocess.pixels), part.contrast, len(images))
    return _resized(made, images.shape[-1])


def _resized(images: Images, size: int) -> Images:
    if images.shape[-1] == size:
        return images
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in images])


def _comparable(mine: params.Preprocess, theirs: params.Preprocess) -> None:
    """Raises UserError when the models see slices prepared differently in more than size."""
    other = [key for key in ("margin", "ct_window", "mr_percentiles") if getattr(mine, key) != getattr(theirs, key)]
    if other:
        raise UserError(f"the champion was trained on slices prepared with another {' and '.join(other)}; decide by hand with ctmr promote")


def _files(uri: str, direction: str, champion: "ModelVersion") -> list[tuple[Path, str]]:
    """Folder and direction of the champion and of the generator from the same training that leads back."""
    opposite = _opposite(direction)
    name = registry.NAMES[opposite]
    back = store.client(uri).search_model_versions(f"name = '{name}' and run_id = '{champion.run_id}'")
    if not back:
        raise UserError(f"the champion's run has no {name}, which is needed to go back")
    return [(registry.files(uri, champion), direction), (registry.files(uri, back[0]), opposite)]


def _opposite(direction: str) -> str:
    return "_to_".join(reversed(direction.split("_to_")))
