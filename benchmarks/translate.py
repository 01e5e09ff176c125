"""The generator on onnxruntime against torch, what the translator adds to it, and how soon `ctmr translate` has its first slice.

Full-size generator (ResNet-9, width 64) with random weights on one simulated head at 256×256. By hand, on an idle machine:
python benchmarks/translate.py
"""

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image

from pipeline import params, phantom
from pipeline.atomic import write_json
from pipeline.formats.table import read_slices
from pipeline.imaging.prepare import prepare
from pipeline.models.generator import build_generator, save_weights
from pipeline.models.inference import load_generator, translate
from pipeline.params import Model, Preprocess
from pipeline.serving.translator import Translator

ROUNDS, BATCH, SIDE = 3, 8, 256
AT_ONCE = f"{BATCH} at once"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, picture = Path(scratch, "models"), Path(scratch, "mr.png")
        folder.mkdir()
        model, preprocess = make_model(folder)
        Image.fromarray(phantom.render_pair(phantom.simulate(3, size=SIDE), 3)[1]).save(picture)
        (slice_,) = read_slices(picture)
        ready = prepare(slice_, "mr", preprocess).array[None]
        eight = np.repeat(ready, BATCH, 0)
        plain = build_generator(model, "mr_to_ct").eval()
        plain.load_state_dict(load_generator(folder, "mr_to_ct").state_dict())
        fast, translator = load_generator(folder, "mr_to_ct"), Translator.from_folder(folder, "mr_to_ct")
        onnx = translator.generator
        apart = float(2 * np.abs(onnx.translate(ready, None) - translate(plain, ready)).max())
        works: dict[str, Callable[[], object]] = {
            "torch, plain": lambda: translate(plain, ready),
            "torch, fast convolutions": lambda: translate(fast, ready),
            "onnxruntime": lambda: onnx.translate(ready, None),
            "translator": lambda: translator.translate_slices([slice_]),
            f"torch, plain, {AT_ONCE}": lambda: translate(plain, eight, batch_size=BATCH),
            f"torch, fast convolutions, {AT_ONCE}": lambda: translate(fast, eight, batch_size=BATCH),
            f"onnxruntime, {AT_ONCE}": lambda: onnx.translate(eight, None),
        }
        slices, commands = measure(works), time_commands(picture, folder)
    print_table(slices, commands, apart)


def make_model(folder: Path) -> tuple[Model, Preprocess]:
    """A folder with the full-size generator MR→CT, with random weights."""
    of = params.load()
    model = of.model.model_copy(update={"generator": "resnet_9", "generator_width": 64})
    preprocess = of.preprocess.model_copy(update={"pixels": SIDE})
    torch.manual_seed(0)
    save_weights(folder / "mr_to_ct.safetensors", build_generator(model, "mr_to_ct"))
    entry = {"weights": "mr_to_ct.safetensors", "sha256": hashlib.sha256((folder / "mr_to_ct.safetensors").read_bytes()).hexdigest()}
    sections = {"model": model.model_dump(mode="json"), "preprocess": preprocess.model_dump(mode="json")}
    write_json(folder / "model.json", {**sections, "directions": {"mr_to_ct": entry}})
    return model, preprocess


def measure(works: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Seconds, and seconds of CPU, that each takes for a slice: medians, taken in turns, so that what else goes on meets all alike."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS + 1):
        for name, work in works.items():
            count = BATCH if name.endswith(AT_ONCE) else 1
            began, used = time.perf_counter(), time.process_time()
            work()
            times[name].append(((time.perf_counter() - began) / count, (time.process_time() - used) / count))
    return {
        name: (statistics.median(taken[0] for taken in rows[1:]), statistics.median(taken[1] for taken in rows[1:]))
        for name, rows in times.items()
    }


def time_commands(picture: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds, and seconds of CPU, of `ctmr translate` by that model and by the one in the box, and of `ctmr --help`: the least of some."""
    translating = ["translate", str(picture), str(picture.with_name("ct.png")), "--to", "ct", "--model"]
    commands = {"ctmr translate, full size": [*translating, str(folder)], "ctmr translate, the box": [*translating, "box"]}
    found = {}
    for name, arguments in {**commands, "ctmr --help": ["--help"]}.items():
        taken = []
        for _ in range(ROUNDS):
            before, began = os.times(), time.perf_counter()
            subprocess.run([sys.executable, "-m", "pipeline.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            taken.append((time.perf_counter() - began, used))
        found[name] = (min(wall for wall, _ in taken), min(used for _, used in taken))
    return found


def print_table(slices: dict[str, tuple[float, float]], commands: dict[str, tuple[float, float]], apart: float) -> None:
    print("| a slice | ratio | ratio of CPU | seconds | CPU seconds |\n| --- | --- | --- | --- | --- |")
    for name, (wall, used) in slices.items():
        plain = slices[f"torch, plain, {AT_ONCE}" if name.endswith(AT_ONCE) else "torch, plain"]
        print(f"| {name} | {plain[0] / wall:.2f} | {plain[1] / used:.2f} | {wall:.2f} | {used:.2f} |")
    for name, (wall, used) in commands.items():
        print(f"| `{name}`{', from its start' if 'translate' in name else ''} | | | {wall:.2f} | {used:.2f} |")
    print(f"\n- {torch.get_num_threads()} threads, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}")
    print(f"- largest difference between onnxruntime and plain torch, on the networks' scale from -1 to 1: {apart:.1e}")


if __name__ == "__main__":
    main()
