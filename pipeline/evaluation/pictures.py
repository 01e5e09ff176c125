"""Grids of source, translation, truth (or what comes back) and difference, of the best, the median and the worst slices."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.evaluation.rows import MODEL
from pipeline.evaluation.slices import slices_of_test
from pipeline.models.bundle import load_generator, translate

if TYPE_CHECKING:
    import pandas as pd

SMALLEST = 128  # pixels a side that a slice is shown with


def examples(rows: "pd.DataFrame", direction: str, count: int) -> list[tuple[str, str]]:
    """Slice ids and captions of at most `count` slices: the best, the median and the worst ones, by the error inside the head."""
    mine = rows[(rows["direction"] == direction) & (rows["method"] == MODEL)]
    truth = "mae" in mine and mine["mae"].notna().any()
    name = "mae" if truth else "cycle_mae"
    ranked = mine.dropna(subset=[name]).sort_values([name, "slice_id"])
    last, what = len(ranked) - 1, "error" if truth else "error there and back"
    picks = {0: "best", last // 2: "median"} | {last - n: f"{n + 1}. worst" if n else "worst" for n in reversed(range(max(1, count - 2)))}
    chosen = [(ranked.iloc[i], label) for i, label in sorted(picks.items()) if i >= 0]
    return [(row["slice_id"], f"{label}: {row['slice_id']}, {what} {row[name]:.3f}") for row, label in chosen]


def draw(
    chosen: list[tuple[str, str]], direction: str, rules: params.Evaluate, slices: Path = paths.SLICES, models: Path = paths.MODELS
) -> NDArray[np.uint8]:
    """uint8 RGB picture, a line for each chosen slice: source, translation, truth or what comes back, difference (red: too bright)."""
    source, target = direction.split("_to_")
    there, back = load_generator(models, direction), load_generator(models, f"{target}_to_{source}")
    rows = {row["slice_id"]: row for row in slices_of_test(direction, slices).to_dict("records")}
    lines = []
    for slice_id, _ in chosen:
        row = rows[slice_id]
        image = slice_arrays.to_float(slice_arrays.load_array("test", source, slices)[int(row["row"])])
        made = translate(there, image[None], row["contrast"], rules.batch_size)[0]
        if row["pair"] >= 0:
            third = slice_arrays.to_float(slice_arrays.load_array("truth", target, slices)[int(row["pair"])])
            difference = made - third
        else:
            third = translate(back, made[None], row["contrast"], rules.batch_size)[0]
            difference = third - image
        grey = [np.repeat(one[..., None], 3, axis=2) for one in (image, made, third)]
        lines.append(np.concatenate([*grey, _coloured(difference)], axis=1))
    picture = np.rint(np.concatenate(lines) * 255).astype(np.uint8)
    enlarge = max(1, -(-SMALLEST // index_size(picture)))
    return picture.repeat(enlarge, axis=0).repeat(enlarge, axis=1)


def index_size(picture: NDArray[np.uint8]) -> int:
    """Pixels a side of one slice in a grid of four columns."""
    return picture.shape[1] // 4


def _coloured(difference: NDArray[np.float32]) -> NDArray[np.float32]:
    """White at 0, red where too bright, blue where too dark."""
    strength = np.clip(np.abs(difference) * 2, 0, 1)[..., None]
    colour = np.where(difference[..., None] > 0, (0.8, 0.0, 0.0), (0.0, 0.2, 0.8))
    return np.asarray(1 - strength + strength * colour, np.float32)


def write(picture: NDArray[np.uint8], file: Path) -> None:
    Image.fromarray(picture).save(file)
