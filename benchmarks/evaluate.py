"""Time and memory of the evaluation of 60 and of 240 registered pairs at 256×256, both ways, small generator (ResNet-6, width 16).

python benchmarks/evaluate.py [PAIRS ...], on an idle machine. Simulated heads go through the graph's own stages first, which is not timed;
the generators are untrained. Each evaluation runs in a process of its own; its peak memory is that of the process.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SLICES_PER_HEAD = 4


def main(counts: list[int]) -> None:
    print("ratio  pairs  wall s  user CPU s  peak MiB   (ratio: to the bare networks on the same slices; bar: 240 in 90 s on 2 cores)")
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            project = Path(scratch, str(count))
            prepare_project(project, count)
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, time.perf_counter()
            peak = run(project, sys.executable, __file__, "--score").split()[-1]
            wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            ratio = wall / float(run(project, sys.executable, __file__, "--bare").split()[-1])
            print(f"{ratio:5.1f}  {count:5}  {wall:6.0f}  {used:10.0f}  {peak:>8}", flush=True)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def prepare_project(folder: Path, count: int) -> None:
    """A project in `folder` with `count` registered test pairs, as the preprocess stage leaves it, and untrained generators."""
    import torch

    from pipeline import paths, presets
    from pipeline.atomic import write_json
    from pipeline.domain import DIRECTIONS
    from pipeline.models.generator import build_generator, save_weights
    from pipeline.params import load

    folder.mkdir()
    for name in ("params.yaml", "dvc.yaml", "presets"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copyfile
        copy(REPOSITORY / name, folder / name)
    settings = {
        "data.phantom.subjects": 8,
        "data.phantom.test_subjects": -(-count // SLICES_PER_HEAD),
        "data.phantom.slices": SLICES_PER_HEAD,
        "data.phantom.pixels": 256,
        "preprocess.pixels": 256,
        "preprocess.teacher_pairs": 0,
        "train.teacher.images": 0,
        "model.generator": "resnet_6",
        "model.generator_width": 16,
    }
    presets.apply([], [f"{key}={value}" for key, value in settings.items()], folder / "params.yaml", folder / "presets")
    for stage in ("download", "validate", "split", "preprocess"):
        run(folder, sys.executable, "-m", f"stages.{stage}")
    params, models = load(folder / "params.yaml"), folder / paths.MODELS
    models.mkdir()
    torch.manual_seed(0)
    for direction in DIRECTIONS:
        save_weights(models / f"{direction}.safetensors", build_generator(params.model, direction))
    sections = {"model": params.model.model_dump(mode="json"), "preprocess": params.preprocess.model_dump(mode="json")}
    files = {direction: {"weights": f"{direction}.safetensors"} for direction in DIRECTIONS}
    write_json(models / "model.json", sections | {"directions": files})


def run(folder: Path, *command: str) -> str:
    """What `command` prints, run in `folder` with the code of this repository."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def score() -> None:
    """Evaluate the project in the working folder; prints the peak memory in MiB."""
    from pipeline.evaluation.report import evaluate
    from pipeline.params import load

    evaluate(load().evaluate)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def translate_alone() -> None:
    """Send the test slices of the project in the working folder through the generators, and nothing else; prints the seconds."""
    import numpy as np

    from pipeline import paths
    from pipeline.dataset.slice_arrays import load_array
    from pipeline.domain import DIRECTIONS
    from pipeline.models.inference import load_generator, translate

    generators = {direction: load_generator(paths.MODELS, direction) for direction in DIRECTIONS}
    began = time.perf_counter()
    for direction, generator in generators.items():
        stored = load_array("test", direction.source)
        translate(generator, stored.astype(np.float32) / np.iinfo(stored.dtype).max)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    parts = {"--score": score, "--bare": translate_alone}
    if sys.argv[1:] and sys.argv[1] in parts:
        parts[sys.argv[1]]()
    else:
        main([int(count) for count in sys.argv[1:]] or [60, 240])
