"""How the averaged generators do on slices that training never sees: error there and back, error against known truth, spread, samples."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.dataset.slice_arrays import to_float
from pipeline.models.cyclegan import SIGNAL
from pipeline.models.inference import translate
from pipeline.training.data import Slices
from pipeline.training.simulated_pairs import SimulatedHeads

MOST = 64  # slices of each modality that are looked at
SAMPLES = 6  # slices of a sample grid
SCORE = "val/score"


def validate(generators: nn.ModuleDict, slices: Slices, pairs: SimulatedHeads | None) -> dict[str, float]:
    """Mean absolute errors in 0..1 of up to 64 slices of each modality, spread over the split, and `val/score`, lower is better.

    `cycle_mae`: there and back on real slices. `paired_mae`: against the truth of simulated `pairs`, where there are some. The score is the
    mean of all of these: simulated truth alone would not notice what real slices lose, nor these what is where. The signal `spread`:
    how much translations differ from each other, relative to real slices; near 0 all look alike.
    """
    ct, mr, contrast = _pick(slices)
    to_mr, to_ct = generators["ct_to_mr"], generators["mr_to_ct"]
    fake_mr, fake_ct = translate(to_mr, ct, contrast), translate(to_ct, mr)
    values = {
        "val/ct_to_mr/cycle_mae": _error(translate(to_ct, fake_mr), ct),
        "val/mr_to_ct/cycle_mae": _error(translate(to_mr, fake_ct, contrast), mr),
        f"{SIGNAL}ct_to_mr/spread": _spread(fake_mr, mr),
        f"{SIGNAL}mr_to_ct/spread": _spread(fake_ct, ct),
    }
    if pairs is not None:
        ct, mr, contrast = _pick(pairs)
        values["val/ct_to_mr/paired_mae"] = _error(translate(to_mr, ct, contrast), mr)
        values["val/mr_to_ct/paired_mae"] = _error(translate(to_ct, mr), ct)
    errors = [value for name, value in values.items() if name.endswith("_mae")]
    return values | {SCORE: sum(errors) / len(errors)}


def draw_samples(generators: nn.ModuleDict, slices: Slices) -> NDArray[np.uint8]:
    """uint8 picture of validation slices: CT, its translation, MR, its translation, a row each."""
    ct, mr, contrast = _pick(slices, SAMPLES)
    rows = (ct, translate(generators["ct_to_mr"], ct, contrast), mr, translate(generators["mr_to_ct"], mr))
    return np.rint(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]) * 255).astype(np.uint8)


def _pick(slices: Slices | SimulatedHeads, most: int = MOST) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """CT slices, as many MR slices with their contrasts: `most` at most, evenly over the split, so that few patients are left out."""
    count = min(most, len(slices.ct), len(slices.mr))
    ct_rows, mr_rows = (np.linspace(0, len(array) - 1, count).round().astype(int) for array in (slices.ct, slices.mr))
    return to_float(slices.ct[ct_rows]), to_float(slices.mr[mr_rows]), [slices.contrast_names[row] for row in mr_rows]


def _error(prediction: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    return float(np.abs(prediction - truth).mean())


def _spread(predictions: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    return float(predictions.std(axis=0).mean() / max(float(real.std(axis=0).mean()), 1e-6))
