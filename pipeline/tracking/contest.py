"""The models of this folder against registered ones: both translate the same test slices now, and their errors are compared in pairs.

Where test slices have truth, the error is the mean absolute difference to it inside the head; else what is left after there and back.
Slices of one group (patient, series, near duplicates) are not independent: means of groups are compared.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.domain import Direction
from pipeline.errors import UserError
from pipeline.evaluation.batches import read_batches
from pipeline.evaluation.intervals import group_means, non_inferiority
from pipeline.evaluation.other_model import check_comparable, translate_resized
from pipeline.evaluation.similarity import inside_head, mae
from pipeline.imaging.intensity import display
from pipeline.models.folder import load_preprocess
from pipeline.models.generator import Generator
from pipeline.models.inference import load_generator
from pipeline.params import Params, Preprocess
from pipeline.tracking import registry, store
from pipeline.tracking.promotion import Comparison

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Errors:
    """Of each test slice of a direction: mean absolute error inside the head, whether it is one against truth, group."""

    error: NDArray[np.float64]
    has_truth: NDArray[np.bool_]
    group: list[str]


@dataclass(frozen=True)
class Model:
    """A generator, the one of the same training that leads back, and how their slices were prepared."""

    there: Generator
    back: Generator
    preprocess: Preprocess

    @classmethod
    def from_folders(cls, direction: Direction, there: Path, back: Path) -> "Model":
        """The generators in two folders with model.json. Raises UserError when they are not usable."""
        return cls(load_generator(there, direction), load_generator(back, direction.opposite), load_preprocess(there))


def compare_with(uri: str, direction: Direction, rivals: "dict[str, ModelVersion]", params: Params) -> dict[str, Comparison]:
    """The models in models/ against each of `rivals`, by role; what prevents a comparison is its `problem`."""
    comparisons: dict[str, Comparison] = {}
    errors: Errors | None = None
    ours: Model | None = None
    for role, version in rivals.items():
        name = version.tags[registry.WEIGHTS][:8]
        try:
            ours = ours or Model.from_folders(direction, paths.MODELS, paths.MODELS)
            errors = errors or measure(ours, direction, params.evaluate.batch_size)
            theirs = Model.from_folders(direction, *_folders(uri, direction, version))
            check_comparable(ours.preprocess, theirs.preprocess)
            comparisons[role] = pair(errors, measure(theirs, direction, params.evaluate.batch_size), name, params.register_.margin)
        except UserError as error:
            comparisons[role] = Comparison(name, problem=f"not compared: {error}; decide by hand with ctmr promote")
    return comparisons


def measure(model: Model, direction: Direction, batch_size: int, folder: Path = paths.SLICES) -> Errors:
    """The error of each test slice in `folder`: to the truth where it is known, else after there and back.

    Raises UserError without test slices.
    """
    errors: list[float] = []
    has_truth: list[bool] = []
    group: list[str] = []
    for batch in read_batches(direction, batch_size, folder):
        pixels, window, count = model.preprocess.pixels, model.preprocess.ct_window, len(batch.images)
        prediction = translate_resized(model.there, pixels, batch.images, batch.contrast, count)
        returned = batch.images if batch.has_truth.all() else translate_resized(model.back, pixels, prediction, batch.contrast, count)
        seen = batch.as_displayed(direction, window)
        prediction, returned = display(prediction, direction.target, window), display(returned, direction.source, window)
        for i, known in enumerate(batch.has_truth):
            truth, result = (seen.truth[i], prediction[i]) if known else (seen.images[i], returned[i])
            errors.append(mae(result, truth, inside_head(seen.images[i], truth)))
        has_truth += batch.has_truth.tolist()
        group += batch.rows["group"].astype(str).tolist()
    return Errors(np.array(errors), np.array(has_truth), group)


def pair(ours: Errors, theirs: Errors, rival: str, margin: float) -> Comparison:
    """Mean errors over groups, and the test of the paired differences; only of slices with truth where there are any."""
    some = ours.has_truth if ours.has_truth.any() else ~ours.has_truth
    group = [name for name, chosen in zip(ours.group, some, strict=True) if chosen]
    our_error, their_error = ours.error[some], theirs.error[some]
    test = non_inferiority(our_error - their_error, group, margin)
    if test is None:
        return Comparison(rival, problem="not compared: no test slice has pixels inside a head")
    both = np.isfinite(our_error - their_error)
    our_mean, their_mean = (float(group_means(np.where(both, error, np.nan), group).mean()) for error in (our_error, their_error))
    return Comparison(rival, our_mean, their_mean, test)


def _folders(uri: str, direction: Direction, version: "ModelVersion") -> tuple[Path, Path]:
    """Folders of a version and of the generator from the same training that leads back."""
    name = direction.opposite.model_name
    back = store.client(uri).search_model_versions(f"name = '{name}' and run_id = '{version.run_id}'")
    if not back:
        raise UserError(f"its run has no {name}, which is needed to go back")
    return registry.files(uri, version), registry.files(uri, back[0])
