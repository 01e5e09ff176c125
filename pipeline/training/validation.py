"""How the averaged generators do on slices that training never sees: error there and back, error against known truth, spread, samples."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.dataset.slice_arrays import to_float
from pipeline.models.bundle import CONTRASTS, translate
from pipeline.models.cyclegan import SIGNAL
from pipeline.training.data import Slices

MOST = 16  # slices of each modality that are looked at
SHOWN = 6  # slices of a sample grid
SCORE = "val/score"


def validate(generators: nn.ModuleDict, slices: Slices, pairs: Slices | None) -> dict[str, float]:
    """Mean absolute errors in 0..1 of up to 16 slices of each modality, and `val/score`, lower is better.

    `cycle_mae`: there and back. `paired_mae`: against the truth of simulated `pairs`, where there are some; the score is its mean over both
    directions, else that of `cycle_mae`. The signal `spread`: how much translations differ from each other, relative to real slices; near 0
    all look alike.
    """
    ct, mr, contrast = _first(slices)
    to_mr, to_ct = generators["ct_to_mr"], generators["mr_to_ct"]
    made_mr, made_ct = translate(to_mr, ct, contrast), translate(to_ct, mr)
    values = {
        "val/ct_to_mr/cycle_mae": _apart(translate(to_ct, made_mr), ct),
        "val/mr_to_ct/cycle_mae": _apart(translate(to_mr, made_ct, contrast), mr),
        f"{SIGNAL}ct_to_mr/spread": _spread(made_mr, mr),
        f"{SIGNAL}mr_to_ct/spread": _spread(made_ct, ct),
    }
    kind = "cycle_mae"
    if pairs is not None:
        kind = "paired_mae"
        ct, mr, contrast = _first(pairs)
        values["val/ct_to_mr/paired_mae"] = _apart(translate(to_mr, ct, contrast), mr)
        values["val/mr_to_ct/paired_mae"] = _apart(translate(to_ct, mr), ct)
    return values | {SCORE: (values[f"val/ct_to_mr/{kind}"] + values[f"val/mr_to_ct/{kind}"]) / 2}


def sample(generators: nn.ModuleDict, slices: Slices) -> NDArray[np.uint8]:
    """uint8 picture of validation slices: CT, MR made of it, MR, CT made of it, a row each."""
    ct, mr, contrast = _first(slices, SHOWN)
    rows = (ct, translate(generators["ct_to_mr"], ct, contrast), mr, translate(generators["mr_to_ct"], mr))
    return np.rint(np.concatenate([np.concatenate(list(row), axis=1) for row in rows]) * 255).astype(np.uint8)


def _first(slices: Slices, most: int = MOST) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    ct, mr = to_float(slices.ct[:most]), to_float(slices.mr[:most])
    count = min(len(ct), len(mr))
    return ct[:count], mr[:count], [_name(row) for row in slices.contrast[:count]]


def _name(condition: Tensor) -> str:
    return CONTRASTS[int(condition.argmax())] if condition.any() else ""


def _apart(result: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(result - wanted).mean())


def _spread(made: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    return float(made.std(axis=0).mean() / max(float(real.std(axis=0).mean()), 1e-6))
