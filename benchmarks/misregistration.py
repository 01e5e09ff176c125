"""What a misregistration of the training pairs costs, by the loss that they are compared with; on simulated heads with known truth.

python benchmarks/misregistration.py. The other side of each training pair is shifted by so many pixels in a direction of its own, and
always by that; held-out pairs are not shifted. Prints the error on these, mean absolute in 0..1 as displayed, inside the head: mean and
least to most over the seeds, and the difference from plain L1 with the same seed.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.dataset import slice_arrays, teacher
from pipeline.domain import CONTRASTS
from pipeline.imaging.intensity import ct_to_display
from pipeline.models.cyclegan import Pairs
from pipeline.models.inference import translate
from pipeline.models.learner import Learner
from pipeline.models.window import WHOLE
from pipeline.params import Params
from pipeline.training.render import Looks, Rendered
from pipeline.training.schedule import linear_rate
from pipeline.training.simulated_pairs import SimulatedHeads, draw_rows, on_networks_scale

BATCH, RATE = 4, 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, help="training pairs")
    parser.add_argument("--steps", type=int, default=200, help=f"of {BATCH} pairs")
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--width", type=int, default=8, help="of the generators")
    parser.add_argument("--shifts", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tolerances", type=int, nargs="+", default=[0, 2], help="of the loss of MR→CT; 0 is plain L1")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    chosen = Params()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        preprocess = chosen.preprocess.model_copy(update={"pixels": options.pixels, "teacher_pairs": max(options.pairs, 320)})
        teacher.build(folder, preprocess)
        slice_arrays.write_preprocessing(folder, preprocess)
        looks = Looks(free=0.0, windowed=0.0, by_millimetres=1.0, flip=False)
        training, held_out = (SimulatedHeads(kind, folder) for kind in ("teacher", "teacher_val"))
        pairs = training.draw(list(range(options.pairs)), looks, 1)
        judged = held_out.draw(list(range(len(held_out))), looks, 2)
    for shift in options.shifts:
        errors: dict[int, list[tuple[float, float]]] = {}
        for tolerance in options.tolerances:
            for seed in options.seeds:
                learner = train(shift_truth(pairs, shift, seed), chosen, options, tolerance, seed)
                errors.setdefault(tolerance, []).append(score(learner, judged, chosen))
            report(shift, tolerance, errors)


def shift_truth(drawn: Rendered, shift: int, seed: int) -> Pairs:
    """The pairs, in each of which the other side lies `shift` pixels away in one of eight directions."""
    pairs = on_networks_scale(drawn)
    random = np.random.default_rng(seed)
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]
    moves = [tuple(shift * step for step in steps[number]) for number in random.integers(len(steps), size=len(pairs.ct))]

    def moved(images: Tensor, sign: int) -> Tensor:
        rolled = [image.roll((sign * down, sign * right), (-2, -1)) for image, (down, right) in zip(images, moves, strict=True)]
        return torch.stack(rolled)

    known = torch.ones_like(pairs.ct)
    return replace(
        pairs, mr=moved(pairs.mr, 1), ct=moved(pairs.ct, -1), ct_weight=known, mr_weight=known,
        ct_window=torch.tensor([WHOLE]).repeat(len(pairs.ct), 1),
    )  # fmt: skip


def train(pairs: Pairs, chosen: Params, options: argparse.Namespace, tolerance: int, seed: int) -> Learner:
    """Generators trained on `pairs` alone."""
    torch.manual_seed(seed)
    registered = chosen.train.pairs.model_copy(update={"tolerance": tolerance})
    settings = chosen.train.model_copy(update={"batch_size": BATCH, "pairs": registered})
    learner = Learner(chosen.model.model_copy(update={"generator_width": options.width}), settings, torch.device("cpu"))
    for step in range(options.steps):
        rows = draw_rows(step, BATCH, len(pairs.ct), (seed, 0))
        learner.set_learning_rate(linear_rate(step, options.steps, 0.5, RATE, 0.0))
        learner.teach(None, Pairs(**{name: value[rows] for name, value in vars(pairs).items()}))
    return learner


def score(learner: Learner, judged: Rendered, chosen: Params) -> tuple[float, float]:
    """Errors of CT→MR and of MR→CT."""
    pairs, inside = on_networks_scale(judged), judged.mask[:, 0].numpy() > 0
    ct, mr, input_ct, input_mr = (((image[:, 0] + 1) / 2).numpy() for image in (pairs.ct, pairs.mr, pairs.input_ct, pairs.input_mr))
    names = [str(CONTRASTS[int(line.argmax())]) for line in pairs.contrast]
    fake_mr = translate(learner.average["ct_to_mr"], input_ct, names)
    fake_ct = translate(learner.average["mr_to_ct"], input_mr)
    shown, truth = (ct_to_display(image, chosen.preprocess.ct_window) for image in (fake_ct, ct))
    return float(np.abs(fake_mr - mr)[inside].mean()), float(np.abs(shown - truth)[inside].mean())


def report(shift: int, tolerance: int, errors: dict[int, list[tuple[float, float]]]) -> None:
    cells = []
    for number, direction in enumerate(("CT→MR", "MR→CT")):
        values = [pair[number] for pair in errors[tolerance]]
        differences = [value - pair[number] for value, pair in zip(values, errors[min(errors)], strict=True)]
        cells.append(
            f"{direction} {statistics.mean(values):.4f} ({min(values):.4f} to {max(values):.4f}), "
            f"{statistics.mean(differences):+.4f} ({min(differences):+.4f} to {max(differences):+.4f})"
        )
    print(f"shift {shift}, tolerance {tolerance}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
