"""Every test slice translated and scored, beside the baselines; a chunk of slices on each core, in memory only while it is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from pipeline.evaluation import texture
from pipeline.evaluation.baselines import baselines
from pipeline.evaluation.rows import Methods, rows_of
from pipeline.evaluation.slices import Part, parts, slices_of_test
from pipeline.models.bundle import load_generator, translate

AT_ONCE = 2**15  # pixels that go through a network together: more is not faster on a CPU and takes memory
AHEAD = 4  # chunks taken for each thread, so that none waits while another works on a slice that takes long
DOUBTED = 20  # test slices, evenly spread, whose doubt is worked out, which takes seven translations more

Images = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Looks:
    """What many slices look like, without holding them: how much they differ from each other, and their texture."""

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
        """Standard deviation of each pixel over the slices, averaged."""
        variance = self.squares / self.count - np.square(self.total / self.count)
        return float(np.sqrt(np.maximum(variance, 0)).mean())


@dataclass
class Scored:
    """One direction: a row a slice and method; spread of translations relative to real target slices, distances to these in texture."""

    direction: str
    rows: list[dict[str, Any]]
    spread: float | None = None
    texture: dict[str, float] = field(default_factory=dict)


def score(rules: params.Evaluate, slices: Path = paths.SLICES, models: Path = paths.MODELS, training: Path = paths.SLICES) -> list[Scored]:
    """Translate and score the test slices in the store `slices` both ways; baselines learn from the store `training`.

    Memory does not grow with the number of slices. Raises UserError when there are no slices, or translations hold NaN.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # chunks of slices are spread over the cores instead, which shares the work of the scores as well
    try:
        scored, looks = [], {}
        for direction in paths.DIRECTIONS:
            source, target = direction.split("_to_")
            there, back = load_generator(models, direction), load_generator(models, f"{target}_to_{source}")
            rows, looks[source], looks[f"made {target}"] = _score(
                Methods(direction, there, back, baselines(direction, training)), rules.batch_size, slices, threads
            )
            scored.append(Scored(direction, rows))
    except FloatingPointError as error:
        raise UserError(f"{models}: {error}, so training has diverged; lower train.learning_rate") from None
    finally:
        torch.set_num_threads(threads)
    for one in scored:
        source, target = one.direction.split("_to_")
        made, real, copied = looks[f"made {target}"], looks[target], looks[source]
        one.spread = _relative(made, real)
        one.texture = _distances(made, real) | {f"copy_{name}": value for name, value in _distances(copied, real).items()}
    return scored


def _score(methods: Methods, batch_size: int, slices: Path, threads: int) -> tuple[list[dict[str, Any]], Looks, Looks]:
    """Rows of one direction; looks of its source slices and of their translations. Raises FloatingPointError for NaN in these."""
    index = slices_of_test(methods.direction, slices)
    pixels = slice_arrays.load_array("test", methods.direction.split("_to_")[0], slices)[0].size
    doubted = _some(index.loc[index["pair"] >= 0, "row"].tolist(), DOUBTED)
    at_once = min(batch_size, max(1, AT_ONCE // pixels))

    def work(part: Part) -> tuple[Part, Images, list[dict[str, Any]], texture.Features, texture.Features]:
        made = translate(methods.there, part.images, part.contrast, at_once)
        returned = translate(methods.back, made, part.contrast, at_once)
        if not (np.isfinite(made).all() and np.isfinite(returned).all()):
            raise FloatingPointError(f"translations {methods.direction} or back hold NaN")
        return part, made, rows_of(methods, part, made, returned, doubted), texture.features(made), texture.features(part.images)

    rows, seen, translated = [], Looks(), Looks()
    for part, made, some, made_texture, seen_texture in in_threads(work, parts(methods.direction, at_once, slices), threads):
        rows += some
        seen.add(part.images, seen_texture)
        translated.add(made, made_texture)
    return rows, seen, translated


def _some(rows: list[int], most: int) -> set[int]:
    """At most `most` of `rows`, evenly spread."""
    return {rows[i] for i in np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)}


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """work(item) of each, in order; only a few items are taken ahead, so that memory does not grow with their number."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            if len(waiting) == AHEAD * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, item))
        while waiting:
            yield waiting.popleft().result()


def _distances(made: Looks, real: Looks) -> dict[str, float]:
    return texture.distances(np.concatenate(made.textures), np.concatenate(real.textures))


def _relative(made: Looks, real: Looks) -> float | None:
    """Spread of translations over that of the real test slices of the target modality; None where one slice tells nothing."""
    if made.count < 2 or real.count < 2 or real.spread() == 0:
        return None
    return made.spread() / real.spread()
