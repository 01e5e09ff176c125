"""How many simulated pairs one core draws a second: python benchmarks/render.py [--pixels 64 128] [--batch 4 16].

The ratio is to simulating a head anew. Seconds are those of the processor, so that other work on the machine hardly shows.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from pipeline.dataset import slice_arrays, teacher
from pipeline.params import load
from pipeline.training.render import Looks
from pipeline.training.simulated_pairs import SimulatedHeads

PROJECT = Path(__file__).parents[1]
REPEATS, ROUNDS = 10, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'ratio':>8}{'pixels':>8}{'batch':>8}{'pairs stored a second':>24}{'drawn a second':>18}")
    for pixels in asked.pixels:
        with tempfile.TemporaryDirectory() as folder:
            heads, stored = store(Path(folder), pixels, max(asked.batch))
            for batch in asked.batch:
                drawn = draw(heads, batch)
                print(f"{drawn / stored:>8.1f}{pixels:>8}{batch:>8}{stored:>24.0f}{drawn:>18.0f}", flush=True)


def store(folder: Path, pixels: int, count: int) -> tuple[SimulatedHeads, float]:
    """Stored heads, and how many were stored a second."""
    preprocess = load(PROJECT / "params.yaml").preprocess.model_copy(update={"pixels": pixels, "teacher_pairs": count})
    slice_arrays.write_preprocessing(folder, preprocess)
    teacher.build(folder, preprocess, workers=1)  # with the atlas, which is read once
    started = time.process_time()
    teacher.build(folder, preprocess, workers=1)
    held_out = len(slice_arrays.load_teacher_index(folder, "teacher_val"))
    return SimulatedHeads("teacher", folder), (count + held_out) / (time.process_time() - started)


def draw(heads: SimulatedHeads, batch: int) -> float:
    """Pairs drawn a second, in the fastest of a few rounds."""
    rows, fastest = list(range(batch)), float("inf")
    for seed in range(ROUNDS):
        started = time.process_time()
        for n in range(REPEATS):
            heads.draw(rows, Looks(), seed * REPEATS + n)
        fastest = min(fastest, (time.process_time() - started) / REPEATS)
    return batch / fastest


if __name__ == "__main__":
    main()
