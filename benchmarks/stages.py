"""How long the graph takes, stage by stage, as people run it: python benchmarks/stages.py [--preset demo], on an idle machine.

A copy of this project, in a folder of its own, runs `dvc repro` for one stage after the other, then once more with nothing to do. The
stages that read images stand beside the plain reference: pillow opening and decoding the same files, one after the other.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
from kill_drill import SOURCE, Drill
from PIL import Image

from pipeline import presets

READERS = ("validate", "preprocess")  # stages that read each image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="demo")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctmr-stages-") as folder:
        drill = Drill(Path(folder) / "project")
        drill.make()
        presets.apply([asked.preset], [], drill.folder / "params.yaml", SOURCE / "presets")
        spent = {stage: repro(drill, stage) for stage in drill.stages()}
        idle = repro(drill)
        files = sorted(file for file in (drill.folder / "data/raw").rglob("*.png"))
        plain, images = decode(files), len(pd.read_parquet(drill.folder / "data/manifest.parquet"))
    whole = sum(wall for wall, _ in spent.values())
    print("| stage | share | seconds | CPU seconds | to decoding alone |\n| --- | --- | --- | --- | --- |")
    for stage, (wall, used) in spent.items():
        ratio = f"{used / plain:.0f}" if stage in READERS else ""
        print(f"| {stage} | {wall / whole:.2f} | {wall:.1f} | {used:.1f} | {ratio} |")
    print(f"| whole graph | 1.00 | {whole:.1f} | {sum(used for _, used in spent.values()):.1f} | |")
    print(f"| `dvc repro`, nothing to do | {idle[0] / whole:.2f} | {idle[0]:.1f} | {idle[1]:.1f} | |\n")
    print(f"- {images} images, decoded alone in {plain:.2f} CPU seconds; each stage has a start of DVC and of Python in it")


def repro(drill: Drill, stage: str | None = None) -> tuple[float, float]:
    """Seconds on the clock and of the processors that `dvc repro` takes for `stage` alone, or for the whole graph."""
    command = ["dvc", "repro", *(["--single-item", stage] if stage else [])]
    before, began = processor_time(), time.perf_counter()
    ended = subprocess.run(command, cwd=drill.folder, env=drill.environment(), capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {ended.returncode}:\n{ended.stdout[-1000:]}{ended.stderr[-2000:]}")
    return time.perf_counter() - began, processor_time() - before


def processor_time() -> float:
    """Seconds that all processes took which this one started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def decode(files: list[Path]) -> float:
    """CPU seconds that pillow takes to open and decode `files`, the second time, when they lie in memory."""
    for _ in range(2):
        began = time.process_time()
        for file in files:
            with Image.open(file) as image:
                image.load()
    return time.process_time() - began


if __name__ == "__main__":
    main()
