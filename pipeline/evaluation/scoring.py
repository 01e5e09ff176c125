"""Every test slice translated and scored, beside the baselines; a chunk of slices on each core, in memory only while it is worked on.

Chunks go to threads here, or to a Dask cluster (`pipeline.parallel`), whose workers read slices and weights by themselves.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import DIRECTIONS, Direction, Modality
from pipeline.errors import UserError
from pipeline.evaluation import texture
from pipeline.evaluation.baselines import baselines
from pipeline.evaluation.batches import Batch, read_batch, split_rows
from pipeline.evaluation.brain_window import level_of
from pipeline.evaluation.other_model import load_other_model
from pipeline.evaluation.slice_scores import Translation, score_translation
from pipeline.imaging.intensity import display
from pipeline.models.generator import Generator
from pipeline.models.inference import load_generator, translate
from pipeline.models.uncertainty import estimate_uncertainty
from pipeline.parallel import in_parallel
from pipeline.params import Evaluate, Window

MODEL = "model"  # the method that stands beside the baselines
BOX = "box"  # the method that is the model in the box
PIXELS_AT_ONCE = 2**15  # that go through a network together: more is not faster on a CPU and takes memory
UNCERTAINTY_SLICES = 20  # test slices, evenly spread, whose uncertainty is worked out, which takes seven translations more

Images = NDArray[np.float32]


@dataclass
class Appearance:
    """What many pictures look like, without holding them: how much they differ from each other, and their texture."""

    count: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    textures: list[texture.Features] = field(default_factory=list)

    @classmethod
    def measure(cls, images: Images) -> "Appearance":
        squares = np.square(images, dtype=np.float64).sum(0)
        return cls(len(images), images.sum(0, dtype=np.float64), squares, [texture.features(images)])

    def merge(self, other: "Appearance") -> None:
        self.count += other.count
        self.total = self.total + other.total
        self.squares = self.squares + other.squares
        self.textures += other.textures

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
    """Of one direction: its generator, the one that leads back, baselines by name, and the model in the box, where it can be compared."""

    there: Generator
    back: Generator
    baselines: Mapping[str, Callable[[Images], Images]]
    box: Callable[..., Images] | None = None


@dataclass(frozen=True)
class Stores:
    """Folders of the test slices, the models, the slices that baselines learn from, and the model in the box where it is asked for."""

    slices: Path
    models: Path
    training: Path
    box: Path | None


@dataclass(frozen=True)
class Chunk:
    """What one task works on: lines of the index of some test slices, and where these and the weights lie.

    `at_once`: slices that go through a network together. `with_uncertainty`: rows of the store whose uncertainty is asked for. `run` is
    another for each evaluation: a worker of a cluster lives longer than one, and must not answer with the weights of the last.
    """

    direction: Direction
    rows: pd.DataFrame
    at_once: int
    window: Window
    with_uncertainty: frozenset[int]
    stores: "Stores"
    run: str


@dataclass(frozen=True)
class ChunkScores:
    """A row a slice and method, and what source slices and translations look like."""

    rows: list[dict[str, Any]]
    real: Appearance
    predicted: Appearance


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
            rows, real[direction.source], predicted[direction.target] = [], Appearance(), Appearance()
            chunks = _split(direction, params.batch_size, Stores(slices, models, training, box))
            with ThreadPoolExecutor(threads) as pool:
                for scores in in_parallel(score_chunk, chunks, threads, executor=pool, name=_first_slice):
                    rows += scores.rows
                    real[direction.source].merge(scores.real)
                    predicted[direction.target].merge(scores.predicted)
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


def _split(direction: Direction, batch_size: int, stores: Stores) -> list[Chunk]:
    """All of a direction's test slices in chunks. Raises UserError as `split_rows`."""
    pixels = math.prod(slice_arrays.load_array("test", direction.source, stores.slices).shape[1:])
    at_once = min(batch_size, max(1, PIXELS_AT_ONCE // pixels))
    parts = split_rows(direction, at_once, stores.slices)
    paired = [row for part in parts for row in part.loc[part["pair"] >= 0, "row"].tolist()]
    places = np.linspace(0, len(paired) - 1, min(UNCERTAINTY_SLICES, len(paired))).round().astype(int)
    with_uncertainty = {paired[place] for place in places}
    window, run = slice_arrays.load_preprocessing(stores.slices).ct_window, uuid4().hex
    return [Chunk(direction, rows, at_once, window, frozenset(with_uncertainty.intersection(rows["row"])), stores, run) for rows in parts]


def _first_slice(chunk: Chunk) -> str:
    return f"test slice {chunk.rows['slice_id'].iloc[0]}"


@lru_cache(maxsize=1)
def _load_networks(direction: Direction, stores: Stores, _run: str) -> Networks:
    torch.set_num_threads(1)  # on a cluster's worker as here: sums in another order would show in the last digits
    there, back = load_generator(stores.models, direction), load_generator(stores.models, direction.opposite)
    box = load_other_model(stores.box, direction, slice_arrays.load_preprocessing(stores.slices)) if stores.box else None
    return Networks(there, back, baselines(direction, stores.training), box)


def score_chunk(chunk: Chunk) -> ChunkScores:
    """Translate there and back, and score. Raises FloatingPointError for NaN in translations."""
    direction, window = chunk.direction, chunk.window
    networks = _load_networks(direction, chunk.stores, chunk.run)
    batch = read_batch(direction, chunk.rows, chunk.stores.slices)
    predictions = translate(networks.there, batch.images, batch.contrast, chunk.at_once)
    returned = translate(networks.back, predictions, batch.contrast, chunk.at_once)
    if not (np.isfinite(predictions).all() and np.isfinite(returned).all()):
        raise FloatingPointError(f"translations {direction} or back hold NaN")
    uncertainties = _uncertainties(networks.there, batch, predictions, chunk.with_uncertainty)
    others = {}
    if networks.box and batch.has_truth.any():
        others[BOX] = display(networks.box(batch.images, batch.contrast, chunk.at_once), direction.target, window)
    batch = batch.as_displayed(direction, window)
    if batch.has_truth.any():
        others |= {name: method(batch.images) for name, method in networks.baselines.items()}
    predictions, returned = display(predictions, direction.target, window), display(returned, direction.source, window)
    rows = score_batch(direction, batch, predictions, returned, uncertainties, others)
    return ChunkScores(rows, Appearance.measure(batch.images), Appearance.measure(predictions))


def score_batch(
    direction: Direction,
    batch: Batch,
    predictions: Images,
    returned: Images,
    uncertainties: Mapping[int, Images],
    others: Mapping[str, Images],
) -> list[dict[str, Any]]:
    """A row a slice and method of one batch, all as displayed. `uncertainties`: of some of its slices, by their place in it.

    `others`: translations by baselines and other models, by name, which are scored against truth alone.
    """
    rows = []
    for i, row in enumerate(batch.rows.to_dict("records")):
        truth = batch.truth[i] if batch.has_truth[i] else None
        ct = batch.images[i] if direction.source is Modality.CT else truth
        facts = {
            "direction": direction.value,
            "slice_id": row["slice_id"],
            "group": str(row["group"]),
            "contrast": batch.contrast[i],
            "level": level_of(ct) if ct is not None else "",
        }
        width = float(batch.window_width[i])
        model = Translation(direction, batch.images[i], predictions[i], truth, returned[i], uncertainties.get(i), width)
        rivals = {name: Translation(direction, batch.images[i], images[i], truth, window_width=width) for name, images in others.items()}
        scores = {method: score_translation(outcome) for method, outcome in {MODEL: model, **rivals}.items()}
        rows += [{**facts, "method": method, **values} for method, values in scores.items() if values]
    return rows


def _uncertainties(generator: Generator, batch: Batch, predictions: Images, rows: frozenset[int]) -> dict[int, Images]:
    """Uncertainty of those slices of the batch that lie in `rows` of the store, by their place in the batch."""
    places = [i for i, row in enumerate(batch.rows["row"]) if row in rows]
    if not places:
        return {}
    contrast = [batch.contrast[i] for i in places]
    work = partial(translate, generator, contrast=contrast, batch_size=len(places))
    return dict(zip(places, estimate_uncertainty(work, batch.images[places], predictions[places]), strict=True))
