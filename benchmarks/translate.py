"""What the translator adds to the bare network, what batches gain, and how soon `ctmr translate` has its first slice.

Full-size generator (ResNet-9, width 64) with random weights on one simulated head at 256×256. By hand, on an idle machine:
python benchmarks/translate.py
"""

import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from pipeline import params, phantom
from pipeline.atomic import write_json
from pipeline.formats.table import read_slices
from pipeline.imaging.prepare import prepare
from pipeline.models.generator import build_generator, save_weights
from pipeline.models.inference import load_generator, translate
from pipeline.serving.translator import Translator

ROUNDS, BATCH = 5, 8


def main() -> None:
    of = params.load()
    model = of.model.model_copy(update={"generator": "resnet_9", "generator_width": 64})
    preprocess = of.preprocess.model_copy(update={"pixels": 256})
    with tempfile.TemporaryDirectory() as scratch:
        folder, picture = Path(scratch, "models"), Path(scratch, "mr.png")
        folder.mkdir()
        torch.manual_seed(0)
        save_weights(folder / "mr_to_ct.safetensors", build_generator(model, "mr_to_ct"))
        entry = {"weights": "mr_to_ct.safetensors", "sha256": hashlib.sha256((folder / "mr_to_ct.safetensors").read_bytes()).hexdigest()}
        sections = {"model": model.model_dump(mode="json"), "preprocess": preprocess.model_dump(mode="json")}
        write_json(folder / "model.json", {**sections, "directions": {"mr_to_ct": entry}})
        Image.fromarray(phantom.render_pair(phantom.simulate(3, size=256), 3)[1]).save(picture)

        (slice_,) = read_slices(picture)
        ready = prepare(slice_, "mr", preprocess).array[None]
        generator, translator = load_generator(folder, "mr_to_ct"), Translator.from_folder(folder, "mr_to_ct")
        bare = seconds(lambda: translate(generator, ready))
        whole = seconds(lambda: translator.translate_slices([slice_]))
        single = seconds(lambda: [translate(generator, ready) for _ in range(BATCH)])
        batch = seconds(lambda: translate(generator, np.repeat(ready, BATCH, 0), batch_size=BATCH))
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "translate",
            str(picture),
            f"{scratch}/ct.png",
            "--to",
            "ct",
            "--model",
            str(folder),
        ]
        start = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), rounds=3)
    table = Table("what", "seconds", "ratio", title=f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {ROUNDS}")
    table.add_row("bare network, one slice", f"{bare:.2f}", "")
    table.add_row("translator, one slice", f"{whole:.2f}", f"{whole / bare:.2f} of the bare network")
    table.add_row(f"{BATCH} slices one by one", f"{single:.2f}", "")
    table.add_row(f"{BATCH} slices in a batch", f"{batch:.2f}", f"{single / batch:.2f} times as fast")
    table.add_row("ctmr translate, start to result", f"{start:.2f}", "")
    Console().print(table)


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median time of `work` over `rounds`, after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
