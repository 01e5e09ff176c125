"""Lines of source, translation, truth (or what comes back) and difference, of the best, the median and the worst slices."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import Direction
from pipeline.evaluation.batches import index_of_test_slices
from pipeline.evaluation.drawing import as_bytes, colour, draw_scale, stack, write_line
from pipeline.evaluation.scoring import MODEL
from pipeline.imaging.intensity import display
from pipeline.models.inference import load_generator, translate

SMALLEST = 128  # pixels a side that a slice is shown with
FULL_COLOUR = 0.5  # of brightness: a difference that is shown in full colour


@dataclass(frozen=True)
class Example:
    """A slice of the gallery: which, and what stands below it."""

    slice_id: str
    caption: str


def choose_examples(rows: pd.DataFrame, direction: Direction, count: int) -> list[Example]:
    """At most `count` slices: the best, the median and the worst ones, by the error inside the head."""
    model = rows[(rows["direction"] == direction.value) & (rows["method"] == MODEL)]
    has_truth = "mae" in model and model["mae"].notna().any()
    name, label = ("mae", "error") if has_truth else ("cycle_mae", "error there and back")
    ranked = model.dropna(subset=[name]).sort_values([name, "slice_id"])
    last = len(ranked) - 1
    worst = {last - n: f"worst no. {n + 1}" if n else "worst" for n in reversed(range(max(1, count - 2)))}
    places = {0: "best", last // 2: "median"} | worst
    return [
        Example(ranked.iloc[i]["slice_id"], f"{place}: {ranked.iloc[i]['slice_id']}, {label} {ranked.iloc[i][name]:.3f}")
        for i, place in sorted(places.items())
        if i >= 0
    ]


def draw_lines(
    examples: list[Example], direction: Direction, slices: Path = paths.SLICES, models: Path = paths.MODELS
) -> list[NDArray[np.uint8]]:
    """An RGB picture for each example: source, translation, truth or what comes back, difference (red: too bright)."""
    there, back = load_generator(models, direction), load_generator(models, direction.opposite)
    rows = {row["slice_id"]: row for row in index_of_test_slices(direction, slices).to_dict("records")}
    window = slice_arrays.load_preprocessing(slices).ct_window
    lines = []
    for example in examples:
        row = rows[example.slice_id]
        source = slice_arrays.to_float(slice_arrays.load_array("test", direction.source, slices)[int(row["row"])])
        prediction = translate(there, source[None], row["contrast"])[0]
        if row["pair"] >= 0:
            third = slice_arrays.to_float(slice_arrays.load_array("truth", direction.target, slices)[int(row["pair"])])
        else:
            third = translate(back, prediction[None], row["contrast"])[0]
        third = display(third, direction.target if row["pair"] >= 0 else direction.source, window)
        source, prediction = display(source, direction.source, window), display(prediction, direction.target, window)
        difference = prediction - third if row["pair"] >= 0 else third - source
        grey = [np.repeat(image[..., None], 3, axis=2) for image in (source, prediction, third)]
        line = as_bytes(np.concatenate([*grey, colour(difference, FULL_COLOUR)], axis=1))
        enlarge = max(1, -(-SMALLEST // len(line)))
        lines.append(line.repeat(enlarge, axis=0).repeat(enlarge, axis=1))
    return lines


def draw_page(examples: list[Example], lines: list[NDArray[np.uint8]], direction: Direction, has_truth: bool) -> NDArray[np.uint8]:
    """The lines of `draw_lines` under each other, with titles, captions and the scale of the difference."""
    side = lines[0].shape[0]
    source, target = direction.source.upper(), direction.target.upper()
    third = f"true {target}" if has_truth else f"{source} there and back"
    parts = [write_line([source, f"{target} made of it", third, "too dark, too bright"], [side] * 4)]
    for example, line in zip(examples, lines, strict=True):
        parts += [line, write_line([example.caption], [4 * side])]
    scale = draw_scale(side, FULL_COLOUR)
    parts.append(np.pad(scale, ((0, 0), (3 * side, 0), (0, 0)), constant_values=255))
    return stack(parts, gap=2)
