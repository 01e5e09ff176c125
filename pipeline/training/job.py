"""From params and slices to models/ and reports/train: resumes an interrupted job of the same digest, writes outputs when complete."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline import params, paths
from pipeline.atomic import new_folder, write_json
from pipeline.models.generator import CONTRASTS, save_weights
from pipeline.tracking.runs import Run, write_run_json
from pipeline.training import guard
from pipeline.training.data import Slices
from pipeline.training.loop import Training, chosen_device

if TYPE_CHECKING:
    import pandas as pd

CODE = [Path(__file__).parent, Path(__file__).parents[1] / "models"]
PLAIN_LINES = 20  # lines of progress where the output is no terminal


def train(of: params.Params) -> None:
    """Train and write models/ and reports/train. Raises UserError on a mendable fault; an interrupted job resumes when run again."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    stop = guard.stop_asked()
    with guard.only_one(paths.CHECKPOINTS / "training.lock"):
        pairs = Slices("teacher") if of.preprocess.teacher_pairs else None
        folder = paths.CHECKPOINTS / job_digest(of)
        training = Training(of, folder, chosen_device(of.train), Slices("train"), Slices("val"), pairs)
        if training.step:
            print(f"going on from step {training.step} of {training.steps}", flush=True)
        run = Run.start(of, resume=training.run_id)
        try:
            for _ in _shown(training.run(run, stop), training):
                pass
        except BaseException:
            run.finish("KILLED" if stop.is_set() else "FAILED")
            raise
        training.save()
        with new_folder(paths.TRAIN_REPORT) as report:
            write_report(report, training)
            run.log_folder(report, "train")
        with new_folder(paths.MODELS) as models:
            write_models(models, training)
            write_run_json(run, models / paths.RUN_JSON.name)
        run.finish()


def job_digest(of: params.Params) -> str:
    """Digest of data, params and code that shape the weights; a changed job starts afresh."""
    digest = hashlib.sha256()
    for section in (of.model, of.train):
        digest.update(section.model_dump_json().encode())
    files = sorted(paths.SLICES.glob("t*.npy")) + sorted(paths.SLICES.glob("*.parquet"))
    for file in files + [source for folder in CODE for source in sorted(folder.glob("*.py"))]:
        with file.open("rb") as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def write_models(folder: Path, training: Training) -> None:
    """Averaged generators as safetensors, and model.json with everything that their use takes."""
    directions = {}
    for direction in paths.DIRECTIONS:
        file = folder / paths.weights(direction).name
        save_weights(file, training.networks.ema[direction])
        directions[direction] = {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    of = training.of
    facts = {"model": of.model.model_dump(), "preprocess": of.preprocess.model_dump(), "directions": directions, "contrasts": CONTRASTS}
    write_json(folder / paths.MODEL_JSON.name, facts)


def write_report(folder: Path, training: Training) -> None:
    """Curves as a table and a picture, and the last samples."""
    import matplotlib as mpl
    import pandas as pd
    from PIL import Image

    mpl.use("Agg")
    curves = pd.DataFrame(training.history)
    wide = curves.pivot_table(index="images", columns="metric", values="value").reset_index()
    wide.to_csv(folder / "curves.csv", index=False)
    Image.fromarray(training.sample()).save(folder / "samples.png")
    _plot(wide, folder / "curves.png")


def _plot(wide: "pd.DataFrame", file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, prefix in zip(axes, ("train/", "val/"), strict=True):
        for name in (column for column in wide.columns if column.startswith(prefix)):
            known = wide[["images", name]].dropna()
            axis.plot(known["images"], known[name], label=name.removeprefix(prefix))
        axis.set(xlabel="images seen", title="training losses" if prefix == "train/" else "validation, error there and back")
        if axis.lines:
            axis.legend()
    figure.savefig(file, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def _shown(steps, training: Training):  # type: ignore[no-untyped-def]
    """Pass `steps` on, with a bar on a terminal and some plain lines elsewhere."""
    console = Console()
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    every = max(1, training.steps // PLAIN_LINES)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("train", total=training.steps, completed=training.step)
        for step in steps:
            progress.update(task, completed=step)
            if not console.is_terminal and step % every == 0:
                print(f"step {step} of {training.steps}", flush=True)
            yield step
