"""Every test slice translated and scored, beside the baselines; a chunk of slices on each core, in memory only while it is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import DIRECTIONS, Direction, Modality
from pipeline.errors import UserError
from pipeline.evaluation import texture
from pipeline.evaluation.baselines import baselines
from pipeline.evaluation.batches import Batch, index_of_test_slices, read_batches
from pipeline.evaluation.brain_window import level_of
from pipeline.evaluation.other_model import OtherModel
from pipeline.evaluation.slice_scores import Translation, score_translation
from pipeline.imaging.intensity import display
from pipeline.models.generator import Generator
from pipeline.models.inference import estimate_uncertainty, load_generator, translate
from pipeline.params import Evaluate

MODEL = "model"  # the method that stands beside the baselines
BOX = "box"  # the method that is the model in the box
PIXELS_AT_ONCE = 2**15  # that go through a network together: more is not faster on a CPU and takes memory
CHUNKS_AHEAD = 4  # for each thread, so that none waits while another works on a slice that takes long
UNCERTAINTY_SLICES = 20  # test slices, evenly spread, whose uncertainty is worked out, which takes seven translations more

Images = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Appearance:
    """What many pictures look like, without holding them: how much they differ from each other, and their texture."""

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    textures: list[texture.Features] = field(default_factory=list)

    def add(self, images: Images, textures: texture.Features) -> None:
        self.count += len(images)
        self.total = self.total + images.sum(0, dtype=np.float64)
        self.squares = self.squares + np.square(images, dtype=np.float64).sum(0)
        self.textures.append(textures)

    def spread(self) -> float:
        """Standard deviation of each pixel over the pictures, averaged."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return float(np.sqrt(np.maximum(variance, 0)).mean())

    def relative_spread(self, real: "Appearance") -> dict[str, float]:
        """The score `spread`: over that of the real slices; empty where one picture tells nothing."""
        if self.count < 2 or real.count < 2 or real.spread() == 0:
            return {}
        return {"spread": self.spread() / real.spread()}

    def texture_distances(self, real: "Appearance") -> dict[str, float]:
        return texture.distances(np.concatenate(self.textures), np.concatenate(real.textures))


@dataclass(frozen=True)
class Networks:
    """One direction: its generator, the one that leads back, the baselines by name, and the model in the box, where it can be compared."""

    direction: Direction
    there: Generator
    back: Generator
    baselines: Mapping[str, Callable[[Images], Images]]
    box: OtherModel | None = None


@dataclass
class DirectionScores:
    """One direction: a row a slice and method, and scores of all translations together (spread, texture distances)."""

    direction: Direction
    rows: list[dict[str, Any]]
    overall: dict[str, float] = field(default_factory=dict)


def score_models(
    params: Evaluate,
    slices: Path = paths.SLICES,
    models: Path = paths.MODELS,
    training: Path = paths.SLICES,
    box: Path | None = None,
) -> list[DirectionScores]:
    """Translate and score the test slices in the store `slices` both ways; baselines learn from the store `training`.

    `box`: folder of the model in the box, which then stands beside the baselines where slices have truth, resized to their size.
    Memory does not grow with the number of slices. Raises UserError when there are no slices, or translations hold NaN.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # chunks of slices are spread over the cores instead, which shares the work of the scores as well
    results = []
    real: dict[Modality, Appearance] = {}
    predicted: dict[Modality, Appearance] = {}
    try:
        for direction in DIRECTIONS:
            networks = Networks(
                direction,
                load_generator(models, direction),
                load_generator(models, direction.opposite),
                baselines(direction, training),
                OtherModel.load(box, direction, slice_arrays.load_preprocessing(slices)) if box else None,
            )
            rows, real[direction.source], predicted[direction.target] = _score_direction(networks, params.batch_size, slices, threads)
            results.append(DirectionScores(direction, rows))
    except FloatingPointError as error:
        raise UserError(f"{models}: {error}, so training has diverged; lower train.learning_rate") from None
    finally:
        torch.set_num_threads(threads)
    for result in results:
        source, target = result.direction.source, result.direction.target
        copied = real[source].texture_distances(real[target])
        result.overall |= predicted[target].relative_spread(real[target]) | predicted[target].texture_distances(real[target])
        result.overall |= {f"copy_{name}": value for name, value in copied.items()}
    return results


def _score_direction(
    networks: Networks, batch_size: int, slices: Path, threads: int
) -> tuple[list[dict[str, Any]], Appearance, Appearance]:
    """Rows of one direction; appearance of its source slices and of their translations. Raises FloatingPointError for NaN in these."""
    direction = networks.direction
    index = index_of_test_slices(direction, slices)
    pixels = slice_arrays.load_array("test", direction.source, slices)[0].size
    with_uncertainty = _evenly_spread(index.loc[index["pair"] >= 0, "row"].tolist(), UNCERTAINTY_SLICES)
    at_once = min(batch_size, max(1, PIXELS_AT_ONCE // pixels))
    window = slice_arrays.load_preprocessing(slices).ct_window

    def work(batch: Batch) -> tuple[Batch, Images, list[dict[str, Any]], texture.Features, texture.Features]:
        predictions = translate(networks.there, batch.images, batch.contrast, at_once)
        returned = translate(networks.back, predictions, batch.contrast, at_once)
        if not (np.isfinite(predictions).all() and np.isfinite(returned).all()):
            raise FloatingPointError(f"translations {direction} or back hold NaN")
        uncertainties = _uncertainties(networks.there, batch, predictions, with_uncertainty)
        others = {}
        if networks.box and batch.has_truth.any():
            others[BOX] = display(networks.box.translate(batch.images, batch.contrast, at_once), direction.target, window)
        batch = batch.as_displayed(direction, window)
        predictions, returned = display(predictions, direction.target, window), display(returned, direction.source, window)
        rows = score_batch(networks, batch, predictions, returned, uncertainties, others)
        return batch, predictions, rows, texture.features(predictions), texture.features(batch.images)

    rows, real, predicted = [], Appearance(), Appearance()
    for batch, predictions, scores, predicted_texture, real_texture in in_threads(work, read_batches(direction, at_once, slices), threads):
        rows += scores
        real.add(batch.images, real_texture)
        predicted.add(predictions, predicted_texture)
    return rows, real, predicted


def score_batch(
    networks: Networks,
    batch: Batch,
    predictions: Images,
    returned: Images,
    uncertainties: Mapping[int, Images],
    others: Mapping[str, Images],
) -> list[dict[str, Any]]:
    """A row a slice and method of one batch, all as displayed. `uncertainties`: of some of its slices, by their place in it. `others`:
    translations by other models, by name, which are scored against truth like the baselines."""
    rows = []
    rivals = dict(others)
    if batch.has_truth.any():
        rivals |= {name: method(batch.images) for name, method in networks.baselines.items()}
    for i, row in enumerate(batch.rows.to_dict("records")):
        truth = batch.truth[i] if batch.has_truth[i] else None
        ct = batch.images[i] if networks.direction.source is Modality.CT else truth
        facts = {
            "direction": networks.direction.value,
            "slice_id": row["slice_id"],
            "group": str(row["group"]),
            "contrast": batch.contrast[i],
            "level": level_of(ct) if ct is not None else "",
        }
        width = float(batch.window_width[i])
        outcomes = {
            MODEL: Translation(networks.direction, batch.images[i], predictions[i], truth, returned[i], uncertainties.get(i), width)
        }
        outcomes |= {
            name: Translation(networks.direction, batch.images[i], images[i], truth, window_width=width) for name, images in rivals.items()
        }
        scores = {method: score_translation(outcome) for method, outcome in outcomes.items()}
        rows += [{**facts, "method": method, **values} for method, values in scores.items() if values]
    return rows


def _uncertainties(generator: Generator, batch: Batch, predictions: Images, rows: set[int]) -> dict[int, Images]:
    """Uncertainty of those slices of the batch that lie in `rows` of the store, by their place in the batch."""
    places = [i for i, row in enumerate(batch.rows["row"]) if row in rows]
    if not places:
        return {}
    contrast = [batch.contrast[i] for i in places]
    return dict(zip(places, estimate_uncertainty(generator, batch.images[places], contrast, len(places), predictions[places]), strict=True))


def _evenly_spread(rows: list[int], most: int) -> set[int]:
    """At most `most` of `rows`."""
    return {rows[i] for i in np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)}


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """work(item) of each, in order; only a few items are read ahead, so that memory does not grow with their number."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if len(waiting) == CHUNKS_AHEAD * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()
