"""From params and slices to models/ and reports/train: resumes an interrupted job of the same digest, writes outputs when complete."""

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline import params, paths
from pipeline.atomic import new_folder, write_json
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from pipeline.models.cyclegan import SIGNAL
from pipeline.models.generator import CONTRASTS, save_weights
from pipeline.models.ranks import Ranks, joined
from pipeline.tracking.runs import start_run, write_run_json
from pipeline.training import guard
from pipeline.training.data import Slices
from pipeline.training.launch import launch, launched
from pipeline.training.loop import Data, Training, chosen_device
from pipeline.training.progress import shown

if TYPE_CHECKING:
    import pandas as pd

CODE = [Path(__file__).parent, Path(__file__).parents[1] / "models"]


def train(of: params.Params) -> None:
    """Train and write models/ and reports/train. Raises UserError on a mendable fault; an interrupted job resumes when run again."""
    slice_arrays.verify(of.preprocess)
    if of.train.devices > 1 and not launched():
        launch(of.train.devices)
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    if of.train.threads:
        torch.set_num_threads(of.train.threads)  # the order in which gradients are summed up depends on it, and so do the last bits
    stop = guard.stop_asked()
    with joined() as ranks:
        if ranks.count != of.train.devices:
            raise UserError(f"params.yaml: train.devices = {of.train.devices}, but {ranks.count} processes were started; make them agree")
        if ranks.first:
            with guard.only_one(paths.CHECKPOINTS / "training.lock"):
                _train(_training(of, ranks), stop)
        else:
            for _ in _training(of, ranks).run(None, stop):
                pass


def _training(of: params.Params, ranks: Ranks) -> Training:
    pairs, held_out_pairs = (Slices(kind) if of.preprocess.teacher_pairs else None for kind in ("teacher", paths.HELD_OUT))
    data = Data(Slices("train"), Slices("val"), pairs, held_out_pairs)
    return Training(of, paths.CHECKPOINTS / job_digest(of), chosen_device(of.train), data, ranks)


def _train(training: Training, stop: threading.Event) -> None:
    """Train in the first process, which alone writes."""
    if training.step:
        print(f"going on from step {training.step} of {training.steps}", flush=True)
    run = start_run(training.of, training.run_id)
    run.set_tags({"precision": training.precision})  # what train.precision = auto means here
    if training.run_id not in (None, run.id):
        for value in training.history:
            run.log_metrics({str(value["metric"]): value["value"]}, int(value["images"]))
    try:
        for _ in shown(training.run(run, stop), training):
            pass
    except BaseException:
        run.finish("KILLED" if stop.is_set() else "FAILED")
        raise
    if training.step < training.steps:
        print(f"ended at step {training.step} of {training.steps}: train.stop_after validations brought nothing better", flush=True)
    training.save()
    training.conclude()
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
    files = sorted(file for file in paths.SLICES.iterdir() if file.suffix in (".npy", ".parquet", ".json"))
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
    preprocess = slice_arrays.load_preprocessing()
    facts = {"model": of.model.model_dump(), "preprocess": preprocess.model_dump(), "directions": directions, "contrasts": CONTRASTS}
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

    titles = {"train/": "training losses", "val/": "validation, mean absolute error", SIGNAL: "signals of collapse"}
    figure, axes = pyplot.subplots(1, 3, figsize=(16, 4), layout="constrained")
    for axis, (prefix, title) in zip(axes, titles.items(), strict=True):
        for name in (column for column in wide.columns if column.startswith(prefix)):
            known = wide[["images", name]].dropna()
            axis.plot(known["images"], known[name], label=name.removeprefix(prefix))
        axis.set(xlabel="images seen", title=title, yscale="log" if prefix == SIGNAL else "linear")
        if axis.lines:
            axis.legend(fontsize="small")
    figure.savefig(file, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
