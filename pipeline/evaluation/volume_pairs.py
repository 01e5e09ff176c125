"""Pairs of volumes: MR translated to CT in Hounsfield units, scored voxel by voxel on the true CT's grid, beside trivial methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import MODALITIES, Modality
from pipeline.errors import UserError
from pipeline.evaluation.bulk_density import BULK_DENSITIES, HEAD, largest_piece
from pipeline.evaluation.bulk_density import LABELS as BULK_LABELS
from pipeline.evaluation.results import differences, summarise
from pipeline.evaluation.scoring import MODEL
from pipeline.evaluation.volume_scores import VOLUME_SCORES, VolumeTranslation, score_volume
from pipeline.formats.slices import LIMITS
from pipeline.formats.table import read_stack, recognise
from pipeline.formats.volume import Volume
from pipeline.imaging.regrid import onto_grid, same_grid
from pipeline.sources.layout import mask_of, stem

Translate = Callable[[Volume], NDArray[np.float32]]  # an MR volume to CT in HU on the same voxels
ERROR = "volume_mae_hu"
MEAN = "mean_picture"
LABELS = {MEAN: "Mean picture of the training CT", **BULK_LABELS}  # of the baselines, in the order in which people see them
LEAST_PLANES = 8  # fewer are slices, which are scored as such
LEAST_OVERLAP = 0.5  # share of the body that the MR must show
SHIFTS = (-12, -9, -6, -3, 0, 3, 6, 9, 12)  # mm by which a volume is moved to see whether it fits better there
COARSE = 3.0  # mm, voxels in which that is judged
BINS = 32
MISALIGNED = 2 * COARSE  # mm
APART = "no common frame of reference by their headers: right only where both were registered to each other"


@dataclass(frozen=True)
class VolumePair:
    """Files of a registered CT and MR of one head, the patient, and the body mask on the CT's grid, where there is one."""

    name: str
    ct: Path
    mr: Path
    group: str
    mask: Path | None = None


@dataclass(frozen=True)
class VolumeScores:
    """A row a pair and method, and by pair what a person should know before believing its scores."""

    rows: pd.DataFrame
    warnings: dict[str, str] = field(default_factory=dict)

    def to_metrics(self) -> dict[str, Any]:
        """What metrics.json holds of them: scores of model and baselines over patients, differences with verdicts, warnings."""
        scored = {MODEL, *self.rows["method"]}
        methods = {method: self.rows[self.rows["method"] == method] for method in (MODEL, *LABELS) if method in scored}
        model = methods.pop(MODEL)
        metrics: dict[str, Any] = {
            "test": summarise(model) | {"pairs": len(model), "groups": int(model["group"].nunique())},
            "baselines": {method: summarise(rows) for method, rows in methods.items()},
            "warnings": self.warnings,
        }
        compared = {method: differences(model, rows, len(methods), key="pair", scores=(ERROR,)) for method, rows in methods.items()}
        return metrics | {"difference": {method: content for method, content in compared.items() if content}}


def find_volume_pairs(raw: Path, slices: pd.DataFrame) -> list[VolumePair]:
    """Pairs of volumes among the paired ones of `slices`, lines of an index (path, modality, frame, group, pair) below the folder `raw`."""
    paired = slices[slices["pair"] >= 0]
    ct, mr = (paired[paired["modality"] == modality] for modality in MODALITIES)
    both = ct.merge(mr, on="pair", suffixes=("_ct", "_mr"))
    pairs = []
    for _, rows in both.groupby(["path_ct", "path_mr"]):
        if rows["frame_ct"].nunique() >= LEAST_PLANES:
            line = rows.iloc[0]
            place = PurePosixPath(line["path_ct"])
            name, mask = stem(place.relative_to(Modality.CT)), raw / mask_of(place)
            pairs.append(VolumePair(name, raw / place, raw / line["path_mr"], str(line["group_ct"]), mask if mask.is_file() else None))
    return pairs


def score_volume_pairs(pairs: Sequence[VolumePair], translations: Mapping[str, Translate]) -> VolumeScores:
    """Translate the MR of each pair by every one of `translations` (MODEL, MEAN) and bulk densities; score them on the CT's grid.

    A pair whose CT is a picture of a window is left out with a warning. Raises UserError naming the pair that cannot be scored else.
    """
    rows: list[dict[str, Any]] = []
    warnings = {}
    for pair in pairs:
        scores, warning = _score_pair(pair, translations)
        rows += [{"pair": pair.name, "group": pair.group, "method": method, **values} for method, values in scores.items()]
        if warning:
            warnings[pair.name] = warning
    return VolumeScores(pd.DataFrame(rows, columns=["pair", "group", "method", *VOLUME_SCORES]), warnings)


def _score_pair(pair: VolumePair, translations: Mapping[str, Translate]) -> tuple[dict[str, dict[str, float]], str]:
    ct, mr = read_stack(pair.ct, Modality.CT), read_stack(pair.mr, Modality.MR)
    if ct.unit != "hu":
        return {}, "left out: its CT is not in Hounsfield units"
    if ct.voxel_size is None:
        raise UserError(f"{pair.name}: the CT does not say how large its voxels are")
    body = recognise(pair.mask).read_volume(pair.mask, LIMITS).voxels > 0 if pair.mask else largest_piece(ct.voxels > HEAD)
    if body.shape != ct.voxels.shape:
        raise UserError(f"{pair.name}: mask {body.shape} and CT {ct.voxels.shape} differ in size")
    on_ct, reached = _on_grid(mr.voxels, mr, ct)
    mask = body & reached
    if mask.sum() < LEAST_OVERLAP * body.sum() or not mask.any():
        share = mask.sum() / max(1, body.sum())
        raise UserError(f"{pair.name}: the MR shows {share:.0%} of the head in the CT, at least {LEAST_OVERLAP:.0%} are needed")
    predictions = {method: translate(mr) for method, translate in translations.items()}
    predictions |= {method: assign(mr.voxels) for method, assign in BULK_DENSITIES.items()}
    scores = {
        method: score_volume(VolumeTranslation(_on_grid(prediction, mr, ct)[0], ct.voxels, mask, ct.voxel_size))
        for method, prediction in predictions.items()
    }
    shift = estimate_shift(on_ct, ct.voxels, mask, ct.voxel_size)
    doubts = [APART] if ct.space and mr.space and ct.space != mr.space else []
    doubts += [f"misaligned: the MR fits better when moved by {shift:g} mm"] if shift >= MISALIGNED else []
    return scores, "; ".join(doubts)


def _on_grid(voxels: NDArray[np.float32], volume: Volume, target: Volume) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """`voxels`, which lie on those of `volume`, on the voxels of `target`; and which of these lie inside. Raises UserError."""
    moved = replace(volume, voxels=voxels)
    if same_grid(moved, target):
        return voxels, np.ones(voxels.shape, bool)
    try:
        result, inside = onto_grid(moved, target)
    except ValueError as error:
        raise UserError(f"{volume.source} and {target.source}: {error}, so one cannot be laid on the other") from None
    if not inside.any():
        raise UserError(f"{volume.source} and {target.source} do not overlap in millimetres; register them first")
    return result.voxels, inside


def estimate_shift(mr: NDArray[np.floating], ct: NDArray[np.floating], mask: NDArray[np.bool_], voxel_size: tuple[float, ...]) -> float:
    """By how many mm along one of its axes the MR would fit the CT better than where it lies, in steps of COARSE; 0 where it fits best.

    Fit is mutual information (Maes et al., IEEE Transactions on Medical Imaging 16(2), 1997) over `mask`, all on the same voxels.
    """
    zoom = [size / COARSE for size in voxel_size]
    one, other = (ndimage.zoom(ndimage.gaussian_filter(np.float32(each), [0.5 / z for z in zoom]), zoom, order=1) for each in (mr, ct))
    inside = ndimage.binary_dilation(ndimage.zoom(mask.astype(np.uint8), zoom, order=0) > 0, iterations=2)
    fits = [(_mutual_information(np.roll(one, round(shift / COARSE), axis), other, inside), shift) for axis in range(3) for shift in SHIFTS]
    return float(abs(max(fits)[1]))


def _mutual_information(one: NDArray[np.float32], other: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    joint = np.histogram2d(_clip(one[inside]), _clip(other[inside]), bins=BINS)[0] / inside.sum()
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / product[some])).sum())


def _clip(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, *np.percentile(values, [0.5, 99.5]))
