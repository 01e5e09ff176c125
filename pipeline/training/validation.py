"""How the averaged generators do on slices that training never sees: error there and back, error against known truth, spread, samples."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.dataset.slice_arrays import to_float
from pipeline.domain import DIRECTIONS, Direction
from pipeline.imaging.intensity import ct_to_display, display, unit_to_ct
from pipeline.models.cyclegan import SIGNAL
from pipeline.models.inference import translate
from pipeline.training.data import Slices
from pipeline.training.paired_slices import PairedSlices
from pipeline.training.simulated_pairs import SimulatedHeads

MOST = 64  # slices of each modality that are looked at
SAMPLES = 6  # slices of a sample grid
SCORE = "val/score"


def validate(
    generators: nn.ModuleDict, slices: Slices | None, pairs: SimulatedHeads | None, registered: PairedSlices | None = None
) -> dict[str, float]:
    """Mean absolute errors of up to 64 slices of each modality, spread over the split, in 0..1 as displayed; `val/score`, lower is better.

    `cycle_mae`: there and back on real slices. `paired_mae`: against the truth of simulated `pairs`, where there are some; `paired_hu`: the
    same of CT in Hounsfield units. `registered_mae`: against the other side of `registered` pairs, where that is known. The score is the
    mean of all of these, 100 HU as 0.1: simulated truth alone would not notice what real slices lose, nor these what is where. The signal
    `spread`: how much translations differ from each other, relative to real slices; near 0 all look alike.
    """
    to_mr, to_ct = generators["ct_to_mr"], generators["mr_to_ct"]
    values: dict[str, float] = {}
    if slices is not None:
        ct, mr, contrast = _pick(slices)
        show = partial(ct_to_display, window=slices.display_window)
        fake_mr, fake_ct = translate(to_mr, ct, contrast), translate(to_ct, mr)
        values |= {
            "val/ct_to_mr/cycle_mae": _error(show(translate(to_ct, fake_mr)), show(ct)),
            "val/mr_to_ct/cycle_mae": _error(translate(to_mr, fake_ct, contrast), mr),
            f"{SIGNAL}ct_to_mr/spread": _spread(fake_mr, mr),
            f"{SIGNAL}mr_to_ct/spread": _spread(show(fake_ct), show(ct)),
        }
    if pairs is not None:
        ct, mr, contrast = _pick(pairs)
        show = partial(ct_to_display, window=pairs.display_window)
        fake_ct = translate(to_ct, mr)
        values |= {
            "val/ct_to_mr/paired_mae": _error(translate(to_mr, ct, contrast), mr),
            "val/mr_to_ct/paired_mae": _error(show(fake_ct), show(ct)),
            "val/mr_to_ct/paired_hu": _error(unit_to_ct(fake_ct), unit_to_ct(ct)),
        }
    if registered is not None:
        values |= {f"val/{direction}/registered_mae": _registered_error(generators, direction, registered) for direction in DIRECTIONS}
    errors = [value / (1000 if name.endswith("_hu") else 1) for name, value in values.items() if name.startswith("val/")]
    return values | {SCORE: sum(errors) / len(errors)}


def draw_samples(generators: nn.ModuleDict, slices: Slices | SimulatedHeads) -> NDArray[np.uint8]:
    """uint8 picture of validation slices as displayed: CT, its translation, MR, its translation, a row each."""
    ct, mr, contrast = _pick(slices, SAMPLES)
    show = partial(ct_to_display, window=slices.display_window)
    rows = (show(ct), translate(generators["ct_to_mr"], ct, contrast), mr, show(translate(generators["mr_to_ct"], mr)))
    return np.rint(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]) * 255).astype(np.uint8)


def _pick(slices: Slices | SimulatedHeads, most: int = MOST) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """CT slices, as many MR slices with their contrasts: `most` at most, evenly over the split, so that few patients are left out."""
    count = min(most, len(slices.ct), len(slices.mr))
    ct_rows, mr_rows = (np.linspace(0, len(array) - 1, count).round().astype(int) for array in (slices.ct, slices.mr))
    return to_float(slices.ct[ct_rows]), to_float(slices.mr[mr_rows]), [slices.contrast_names[row] for row in mr_rows]


def _error(prediction: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    return float(np.abs(prediction - truth).mean())


def _registered_error(generators: nn.ModuleDict, direction: Direction, pairs: PairedSlices) -> float:
    """Mean absolute error against the other side of up to 64 pairs, as displayed, where it is known."""
    rows = np.linspace(0, len(pairs) - 1, min(MOST, len(pairs))).round().astype(int)
    images, truth, known = pairs.translations(direction.source, rows)
    made = translate(generators[direction], images, pairs.contrasts(rows))
    shown = [display(some, direction.target, pairs.display_window) for some in (made, truth)]
    return float(np.abs(shown[0] - shown[1])[known].mean())


def _spread(predictions: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    return float(predictions.std(axis=0).mean() / max(float(real.std(axis=0).mean()), 1e-6))
