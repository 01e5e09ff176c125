"""Challenger against champion: both translate the same test slices now, and a paired bootstrap says whether the challenger is worse.

Where test slices have truth, the error is the mean absolute difference to it inside the head; else what is left after there and back.
Slices of one group (patient, series, near duplicates) are not independent: groups are resampled, not slices.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import params, paths
from pipeline.dataset import store as slices
from pipeline.errors import UserError
from pipeline.serving.translator import Translator
from pipeline.tracking import registry, store
from pipeline.tracking.gate import Check

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

HEAD = 0.1  # a pixel is inside the head where source and target together are brighter than this
MOST = 400  # slices compared, evenly spread over the test slices: enough for an interval, soon done
NAME = "not worse than the champion"

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A generator and the one of the same training that leads back."""

    there: Translator
    back: Translator


@dataclass(frozen=True)
class TestSlices:
    """images (N, size, size) in 0..1; truth of the same shape or None; contrast wanted of each ("" unknown); group of each."""

    images: Images
    truth: Images | None
    contrast: list[str]
    group: list[str]


def judge(uri: str, direction: str, champion: "ModelVersion", rules: params.Evaluate) -> Check:
    """Whether models/ translates the test slices not worse than the registered `champion`; what prevents the comparison fails it."""
    try:
        mine = Pair(*(Translator.from_folder(paths.MODELS, one) for one in (direction, _opposite(direction))))
        theirs = Pair(*(Translator.from_folder(folder, one) for folder, one in _files(uri, direction, champion)))
        _comparable(mine.there.preprocess, theirs.there.preprocess)
        test = load(direction)
    except UserError as error:
        return Check(NAME, False, f"not compared: {error}")
    return compare(errors(mine, test), errors(theirs, test), test.group, champion.tags[registry.WEIGHTS][:8], rules)


def load(direction: str, folder: Path = paths.SLICES) -> TestSlices:
    """The test slices of `direction`: those with truth where there are some, else all. Raises UserError when there are none."""
    source, target = direction.split("_to_")
    index = slices.load_index(folder)
    index = index[(index["split"] == "test") & (index["modality"] == source)].sort_values("row")
    truth = None
    if (index["pair"] >= 0).any():
        index = index[index["pair"] >= 0]
        truth = slices.load_array("truth", target, folder)
    if index.empty:
        raise UserError(f"{folder}: no test slices of {source.upper()}")
    index = index.iloc[np.unique(np.linspace(0, len(index) - 1, MOST).round().astype(int))]
    contrast = index["contrast"].where(index["contrast"].isin(("t1", "t2", "flair", "pd")), "")
    images = slices.to_float(slices.load_array("test", source, folder)[index["row"].to_numpy()])
    known = None if truth is None else slices.to_float(truth[index["pair"].to_numpy()])
    return TestSlices(images, known, contrast.tolist(), index["group"].astype(str).tolist())


def errors(pair: Pair, test: TestSlices) -> NDArray[np.float64]:
    """Mean absolute error of each slice inside the head, against truth or after there and back."""
    translated = _translate(pair.there, test.images, test.contrast)
    wanted, got = (test.images, _translate(pair.back, translated, test.contrast)) if test.truth is None else (test.truth, translated)
    inside = test.images + wanted > HEAD
    return np.asarray((np.abs(got - wanted) * inside).sum((1, 2)) / np.maximum(inside.sum((1, 2)), 1), np.float64)


def compare(
    challenger: NDArray[np.float64], champion: NDArray[np.float64], group: list[str], champion_name: str, rules: params.Evaluate
) -> Check:
    """Check of the mean difference of two errors of the same slices, by a paired bootstrap over groups (95 %, percentiles).

    Passes when the difference may be zero or favours the challenger.
    """
    from scipy import stats

    names, member = np.unique(group, return_inverse=True)
    difference = np.bincount(member, challenger - champion) / np.bincount(member)
    mean = float(difference.mean())
    low = high = mean
    if len(names) > 1 and np.ptp(difference) > 0:
        found = stats.bootstrap(
            (difference,), np.mean, n_resamples=rules.bootstrap, method="percentile", rng=np.random.default_rng(rules.seed)
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    verdict = "worse" if low > 0 else "better" if high < 0 else "no difference shown"
    return Check(
        NAME,
        low <= 0,
        f"{verdict}: error {challenger.mean():.4f}, champion {champion_name} {champion.mean():.4f} on the same {len(group)} slices"
        f" of {len(names)} groups, difference {mean:+.4f} [{low:+.4f}, {high:+.4f}]",
    )


def _translate(translator: Translator, images: Images, contrast: list[str]) -> Images:
    """Translate prepared slices; a model of another size gets and gives resized ones."""
    from pipeline.models.bundle import translate

    size = translator.preprocess.size
    made = translate(translator.generator, _resized(images, size), contrast if translator.conditional else None)
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
