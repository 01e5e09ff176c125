"""The model in the box: trained from nothing but simulated heads, without the graph, data or MLflow. It has no patient in it.

    python -m pipeline.training.box                    # to the end; goes on where it was interrupted
    python -m pipeline.training.box --minutes 30       # stops in time, with a checkpoint and the models so far

The preset `box` says how. Heads and checkpoints lie in checkpoints/box/. Weights and model.json go to checkpoints/box/models/, with
params.yaml and origin.json beside them, which say what made them; pipeline/box/ holds those that come with the package.
"""

import argparse
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline import params, paths, presets
from pipeline.atomic import new_folder, write_json
from pipeline.dataset import slice_arrays, teacher
from pipeline.errors import user_errors
from pipeline.models.fast.precision import be_deterministic, choose_precision, is_deterministic
from pipeline.params import Params
from pipeline.processes import Stop, ask_git
from pipeline.training.checkpoint import job_digest
from pipeline.training.feed import Data
from pipeline.training.job import write_models
from pipeline.training.loop import Interrupted, Training, choose_device
from pipeline.training.progress import show_progress

PRESET = paths.IN_THE_BOX


class SampleFolder:
    """A tracker without a server: the last samples as a picture in a folder, the curves in the checkpoints alone."""

    id = PRESET

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """The display shows them."""

    def log_image(self, array: NDArray[np.uint8], key: str, step: int = 0) -> None:
        Image.fromarray(array).save(self.folder / f"{key}.png")


def train_box(chosen: Params, models: Path, work: Path, stop: Stop) -> tuple[int, int]:
    """Train as `chosen` says from simulated heads alone and write `models`, where `stop` is set as far as it got.

    Heads and checkpoints lie in `work`. Gives the steps done and those that there are.
    """
    heads = work / "heads"
    if not heads.is_dir():
        with new_folder(heads) as folder:
            teacher.build(folder, chosen.preprocess)
            slice_arrays.write_preprocessing(folder, chosen.preprocess)
    slice_arrays.verify(chosen.preprocess, paths.PRESETS / f"{PRESET}.yaml", heads)
    device = choose_device(chosen.train)
    be_deterministic(is_deterministic(chosen.train, device), chosen.train.compile)
    if chosen.train.threads:
        torch.set_num_threads(chosen.train.threads)
    digest = job_digest(chosen, device, choose_precision(chosen, device), heads)
    training = Training(chosen, work / digest, device, Data.load(with_teacher=True, folder=heads, with_slices=False))
    try:
        show_progress(training.run(SampleFolder(work), stop), training)
    except Interrupted as interrupted:
        print(interrupted)
    training.save()
    with new_folder(models) as folder:
        write_models(folder, training, heads, half=True)
        write_origin(folder, chosen, training.step, training.steps)
    return training.step, training.steps


def write_origin(models: Path, chosen: Params, step: int, steps: int, commit: str | None = None) -> None:
    """Write beside the weights in `models` what made them: every param, and origin.json with the git commit of the code (that of this
    copy unless `commit` is given; "changed": files differed from it), the steps done of those planned, torch and the kind of CPU."""
    here = Path(__file__).parent
    write_json(
        models / paths.BOX_ORIGIN.name,
        {
            "commit": commit or ask_git("rev-parse", "HEAD", folder=here),
            "changed": commit is None and bool(ask_git("status", "--porcelain", "--untracked-files=no", folder=here)),
            "steps": step,
            "planned_steps": steps,
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
    )
    presets.write_complete(chosen, models / paths.PARAMS.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=paths.CHECKPOINTS / PRESET / "models", help="folder for weights and model.json")
    parser.add_argument("--work", type=Path, default=paths.CHECKPOINTS / PRESET, help="folder for heads and checkpoints")
    parser.add_argument("--minutes", type=float, help="stop after so many")
    parser.add_argument("--threads", type=int, help="of the CPU, instead of the preset's; other weights come out")
    arguments = parser.parse_args()
    with user_errors():
        chosen = params.parse(presets.nest(presets.complete([PRESET])), PRESET)
        if arguments.threads:
            chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"threads": arguments.threads})})
        stop, start = Stop(), time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if arguments.minutes:
            timer = threading.Timer(60 * arguments.minutes, stop.set)
            timer.daemon = True
            timer.start()
        done, steps = train_box(chosen, arguments.models, arguments.work, stop)
        print(f"{arguments.models}: {done} of {steps} steps, {(time.monotonic() - start) / 60:.0f} minutes in this call")


if __name__ == "__main__":
    main()
