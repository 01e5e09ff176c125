"""From models and test slices to the folder of an evaluation: metrics.json, scores.json, a row a slice, pictures, report.html."""

import os
from pathlib import Path

import pandas as pd
from PIL import Image

from pipeline import paths
from pipeline.atomic import new_folder, write_json
from pipeline.dataset import slice_arrays
from pipeline.domain import DIRECTIONS, HEADLINE_SCORES, Direction
from pipeline.errors import UserError
from pipeline.evaluation import report_page
from pipeline.evaluation.gallery import Example, choose_examples, draw_lines, draw_page
from pipeline.evaluation.other_model import check_comparable
from pipeline.evaluation.planted_lesions import score_lesions
from pipeline.evaluation.results import Evaluation, to_metrics
from pipeline.evaluation.scoring import score_models
from pipeline.evaluation.volume_pairs import VolumeScores
from pipeline.models.folder import load_preprocess
from pipeline.params import Evaluate

FILES = {  # that the folder of an evaluation may hold
    *(file.name for file in (paths.PER_SLICE, paths.METRICS_JSON, paths.SCORES_JSON, paths.REPORT_HTML)),
    *(f"{direction}.png" for direction in DIRECTIONS),
    *("per_volume.parquet", "errors.csv"),  # errors.csv: of earlier versions
}


def check_folder(target: Path) -> None:
    """Raises UserError where `target` is no folder, or holds anything but an earlier evaluation: a new one replaces it whole."""
    if target.is_dir():
        others = sorted({entry.name for entry in target.iterdir()} - FILES)
        if others:
            raise UserError(f"{target}: holds other files ({', '.join(others[:3])}), and would be replaced; name a new or empty folder")
    elif os.path.lexists(target):
        raise UserError(f"{target}: a file, but the report is a folder; name another")


def evaluate(
    params: Evaluate,
    target: Path = paths.EVALUATE_REPORT,
    slices: Path = paths.SLICES,
    models: Path = paths.MODELS,
    data: str | None = None,
    volumes: VolumeScores | None = None,
    box: Path | None = None,
) -> Evaluation:
    """Score `models` on the test slices in the store `slices` both ways and write the folder `target`, whole or not at all.

    `data`: what the report calls the slices, where they are not the graph's. `volumes`: scores of registered volumes, where there are any.
    `box`: folder of the model in the box, to stand beside; left out, with a word, where it sees slices prepared in another way.
    Raises UserError when there is nothing to score.
    """
    box = _comparable_box(box, slices, models)
    results = score_models(params, slices, models, box=box)
    rows = pd.DataFrame([row for result in results for row in result.rows])
    metrics = to_metrics(results, rows) | {"lesions": score_lesions(models)}
    if box is not None:
        metrics["box"] = {"pixels": load_preprocess(box).pixels}
    if volumes is not None:
        metrics["volumes"] = {Direction.MR_TO_CT.value: volumes.to_metrics()}
    with new_folder(target) as folder:
        rows.to_parquet(folder / paths.PER_SLICE.name, index=False)
        if volumes is not None:
            volumes.rows.to_parquet(folder / "per_volume.parquet", index=False)
        write_json(folder / paths.METRICS_JSON.name, metrics)
        headlines = {
            direction: {name: scores[name] for name in HEADLINE_SCORES if name in scores} for direction, scores in metrics["test"].items()
        }
        write_json(folder / paths.SCORES_JSON.name, headlines)
        galleries = {}
        for direction in DIRECTIONS:
            examples, has_truth = choose_examples(rows, direction, params.examples), "mae" in metrics["test"][direction]
            galleries[direction] = _draw_gallery(folder, examples, direction, has_truth, slices, models)
        page = report_page.render(metrics, galleries, data)
        (folder / paths.REPORT_HTML.name).write_text(page, encoding="utf-8")
    return Evaluation(metrics, rows, target)


def _draw_gallery(
    folder: Path, examples: list[Example], direction: Direction, has_truth: bool, slices: Path, models: Path
) -> report_page.Gallery:
    """A line of pictures for each example, with its caption; all in one picture, {direction}.png, in `folder`."""
    if not examples:
        return []
    lines = draw_lines(examples, direction, slices, models)
    Image.fromarray(draw_page(examples, lines, direction, has_truth)).save(folder / f"{direction}.png")
    return [(example.caption, line) for example, line in zip(examples, lines, strict=True)]


def _comparable_box(box: Path | None, slices: Path, models: Path) -> Path | None:
    """`box` where it is another model than `models` and sees slices prepared as these are."""
    if box is None or box.resolve() == models.resolve():
        return None
    try:
        check_comparable(slice_arrays.load_preprocessing(slices), load_preprocess(box))
    except UserError as error:
        print(f"the model in the box is not compared: {error}")
        return None
    return box
