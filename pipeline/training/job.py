"""From params and slices to models/ and reports/train: resumes an interrupted job of the same digest, writes outputs when complete."""

import hashlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import torch

from pipeline import paths
from pipeline.atomic import new_folder, write_json
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS, DIRECTIONS
from pipeline.errors import UserError
from pipeline.models.cyclegan import SIGNAL
from pipeline.models.fast.precision import be_deterministic, choose_precision, is_deterministic
from pipeline.models.fast.ranks import Ranks, join_group
from pipeline.models.generator import save_weights
from pipeline.params import Params
from pipeline.processes import Stop, hold_lock
from pipeline.training import launch
from pipeline.training.checkpoint import forget_finished, job_digest, mark_finished
from pipeline.training.feed import Data
from pipeline.training.loop import Tracker, Training, choose_device
from pipeline.training.progress import show_progress

if TYPE_CHECKING:
    import pandas as pd


class Run(Tracker, Protocol):
    """What is told of a training beside its curves: the report, facts, and how it ended."""

    def log_files(self, path: Path, artifact_path: str | None = None) -> None: ...
    def set_tags(self, tags: Mapping[str, str]) -> None: ...
    def finish(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None: ...


SomeRun = TypeVar("SomeRun", bound=Run)


def train(
    params: Params,
    stop: Stop,
    start_run: Callable[[Params, str | None], SomeRun],
    write_run: Callable[[SomeRun, Path], None],
) -> None:
    """Train and write models/ and reports/train. Raises UserError on a mendable fault; an interrupted job resumes when run again.

    `stop`: set from outside to end after the step at work, with a checkpoint. `start_run` gets params and the id of the run to go on with,
    where there is one; it is called once the data is sound, in the first process alone. `write_run` notes in a file beside the models which
    run made them.
    """
    slice_arrays.verify(params.preprocess)
    if params.train.devices > 1 and not launch.is_launched():
        launch.launch(params.train.devices)
        return
    if params.train.threads:
        torch.set_num_threads(params.train.threads)  # the order in which gradients are summed up depends on it, and so do the last bits
    with join_group() as ranks:
        if ranks.count != params.train.devices:
            raise UserError(
                f"params.yaml: train.devices = {params.train.devices}, but {ranks.count} processes were started; make them agree"
            )
        if not ranks.first:
            for _ in load_training(params, ranks).run(None, stop):
                pass
            return
        with hold_lock(paths.TRAINING_LOCK, "training"):
            training = load_training(params, ranks)
            tracker = start_run(params, training.run_id)
            try:
                run_training(training, tracker, stop)
                write_outputs(training, tracker, write_run)
            except BaseException:
                tracker.finish("KILLED" if stop.is_set() else "FAILED")
                raise


def load_training(params: Params, ranks: Ranks) -> Training:
    """The training that `params` describe, as far as its last checkpoint goes."""
    device = choose_device(params.train)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else each process takes memory on the first GPU as well
    be_deterministic(is_deterministic(params.train, device), params.train.compile)
    digest = job_digest(params, device, choose_precision(params, device))
    folder = paths.CHECKPOINTS / digest
    if ranks.first:
        forget_finished(folder)
    if ranks.bytes_from_first(digest.encode()) != digest.encode():  # the others wait until that is done
        raise UserError(
            f"{socket.gethostname()}: params, data, code or kind of machine differ from those of the first host;"
            " git pull and dvc pull here, then start again on all"
        )
    with_pairs = params.split.pairs == "grouped" and params.train.pairs.weight > 0
    return Training(params, folder, device, Data.load(params.preprocess.teacher_pairs > 0, with_pairs=with_pairs), ranks)


def run_training(training: Training, tracker: Run, stop: Stop) -> None:
    """Train to the end in the first process, which alone tracks and shows how it goes."""
    if training.step:
        print(f"going on from step {training.step} of {training.steps}", flush=True)
    # What auto and null mean here.
    deterministic = is_deterministic(training.params.train, training.device)
    tracker.set_tags({"precision": training.precision, "deterministic": str(deterministic).lower()})
    if training.run_id not in (None, tracker.id):
        for value in training.history:
            tracker.log_metrics({str(value["metric"]): value["value"]}, int(value["images"]))
    show_progress(training.run(tracker, stop), training)
    if training.step < training.steps:
        print(f"ended at step {training.step} of {training.steps}: train.stop_after validations brought nothing better", flush=True)


def write_outputs(training: Training, tracker: SomeRun, write_run: Callable[[SomeRun, Path], None]) -> None:
    """The stage's outputs, each complete or not at all."""
    training.save()
    mark_finished(training.folder)
    training.use_best()
    with new_folder(paths.TRAIN_REPORT) as report:
        write_report(report, training)
        tracker.log_files(report, "train")
    with new_folder(paths.MODELS, durable=True) as models:
        write_models(models, training)
        write_run(tracker, models / paths.RUN_JSON.name)
    tracker.finish()


def write_models(folder: Path, training: Training, slices: Path = paths.SLICES, half: bool = False) -> None:
    """Averaged generators as safetensors, and model.json with everything that their use takes.

    `slices`: where what preprocessing did is written. `half`: weights in half precision, which takes half the space.
    """
    directions = {}
    for direction in DIRECTIONS:
        file = folder / paths.weights(direction).name
        save_weights(file, training.learner.average[direction], half)
        directions[direction] = {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    made_with = {"model": training.params.model.model_dump(), "preprocess": slice_arrays.load_preprocessing(slices).model_dump()}
    write_json(folder / paths.MODEL_JSON.name, made_with | {"directions": directions, "contrasts": CONTRASTS})


def write_report(folder: Path, training: Training) -> None:
    """Curves as a table and a picture, and the last samples."""
    import pandas as pd
    from PIL import Image

    curves = pd.DataFrame(training.history)
    wide = curves.pivot_table(index="images", columns="metric", values="value").reset_index()
    wide.to_csv(folder / "curves.csv", index=False)
    Image.fromarray(training.draw_samples()).save(folder / "samples.png")
    plot_curves(wide, folder / "curves.png")


def plot_curves(wide: "pd.DataFrame", file: Path) -> None:
    """Losses, validation in brightness and in Hounsfield units, signals of collapse: a panel each, over the images seen."""
    from matplotlib.figure import Figure

    panels = {
        "training losses": wide.filter(regex="^train/"),
        "validation: mean absolute error, brightness 0 to 1": wide.filter(regex="^val/.*(?<!_hu)$"),
        "validation: mean absolute error, HU": wide.filter(regex="^val/.*_hu$"),
        "signals of collapse": wide.filter(like=SIGNAL),
    }
    figure = Figure(figsize=(16, 9), layout="constrained")
    for axis, (title, curves) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        for name, values in curves.items():
            known = values.dropna()
            axis.plot(wide.loc[known.index, "images"], known, label=str(name).partition("/")[2])
        axis.set(xlabel="images seen", title=title, yscale="log" if title.startswith("signals") else "linear")
        if axis.lines:
            axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))  # beside the curves, of which it hides none
    figure.savefig(file, dpi=90, metadata={"Software": None})
