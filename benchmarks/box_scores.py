"""What the model in the box scores: on real pairs, on simulated volumes with truth by tissue, on one sequence after the other."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.domain import DIRECTIONS, Contrast, Direction, Modality
from pipeline.evaluation.baselines import MeanPicture, baselines
from pipeline.evaluation.batches import read_batches
from pipeline.evaluation.brain_window import dice
from pipeline.evaluation.bulk_density import BULK_DENSITIES
from pipeline.evaluation.registered_pairs import store_pairs
from pipeline.evaluation.results import summarise
from pipeline.evaluation.scoring import MODEL
from pipeline.evaluation.slice_scores import Translation, score_translation
from pipeline.evaluation.synthrad import mae
from pipeline.evaluation.volume_scores import BONE
from pipeline.formats.slices import Slice
from pipeline.formats.volume import Volume
from pipeline.imaging.intensity import display
from pipeline.imaging.prepare import find_outlines, prepare_volume
from pipeline.models.folder import load_preprocess
from pipeline.params import Params
from pipeline.phantom import SimulatedVolume, simulate_volume
from pipeline.phantom.sequences import PROTOCOLS, Sequence, draw_settings
from pipeline.phantom.tissues import PROPERTIES, Tissue
from pipeline.serving.translator import Translator

Images = NDArray[np.float32]
FIRST_SEED = 2**42  # of simulated heads that no training and no validation has seen
MEAN_SEED = 2**43  # of those that the mean picture is taken of
SPACING = (1.5, 1.5)  # mm in the plane
LOWEST, HIGHEST = -60.0, 80.0  # mm from the middle of the head
SIDES = (128, 64)  # pixels at which real pairs are scored
ON_PAIRS = ("mae", "correlation", "ssim")
PARTS = ("pairs", "simulated", "sequences", "volumes")
GROUPS = {
    "air": (Tissue.AIR,),
    "fat": (Tissue.FAT,),
    "muscle and skin": (Tissue.MUSCLE, Tissue.SKIN, Tissue.MUCOSA),
    "bone": (Tissue.BONE, Tissue.TOOTH),
    "marrow": (Tissue.MARROW,),
    "fluid": (Tissue.CSF,),
    "grey matter": (Tissue.GREY,),
    "white matter": (Tissue.WHITE,),
}
SHORT_TI = Sequence(Contrast.T2, "inversion_recovery", tr=4500, te=40, ti=160)  # STIR, which training never draws
KNOWN: dict[str, tuple[int, bool]] = {  # number in PROTOCOLS, and whether contrast agent was given
    "T1, spin echo": (0, False),
    "T1 with agent, spin echo": (0, True),
    "T1, inversion recovery": (1, False),
    "T1, MPRAGE": (2, False),
    "T1 with agent, MPRAGE": (2, True),
    "T1, gradient echo": (3, False),
    "T2": (5, False),
    "FLAIR": (6, False),
    "PD": (7, False),
    "T2*, gradient echo": (8, False),
}
FINE = 2.0  # mm
AXIAL, THREE = "axial alone", "axial, coronal and sagittal: the median"
FREE, UNSEEN = "free look, by no physics", "short-TI inversion recovery"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the card, and the digests of the weights that they belong to.

    What is not to be measured stays as it stands in scores.json, where that is of the same weights.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # a trainer may be at work beside it
    facts = json.loads((options.box / paths.MODEL_JSON.name).read_text(encoding="utf-8"))
    content: dict[str, Any] = {"weights": {name: entry["sha256"] for name, entry in facts["directions"].items()}}
    file = options.box / paths.BOX_SCORES.name
    if file.is_file() and (known := json.loads(file.read_text(encoding="utf-8")))["weights"] == content["weights"]:
        content = known
    steps: dict[str, Callable[[], Any]] = {
        "pairs": lambda: score_pairs(options.box, options.pairs, options.patient, options.training),
        "simulated": lambda: score_simulated(options.box, options.heads, options.planes),
        "sequences": lambda: score_sequences(options.box, options.heads, options.planes),
        "volumes": lambda: score_volumes(options.box, options.heads),
    }
    for name in options.only:
        if name == "pairs" and not options.pairs:
            continue
        began = time.monotonic()
        content[name] = steps[name]()
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return content


def score_pairs(box: Path, pairs: Path, patient: str | None, training: Path) -> dict[str, Any]:
    """Scores on real pairs, by side in pixels and direction: mean over patients with intervals, pictures as displayed.

    The network always sees its own size. At half that size its pictures and the truth are averaged over 2 × 2 pixels. "beside" holds
    the model and the baselines, which learn from the stored slices in `training`, with the lowest and the highest patient of each.
    """
    preprocess = load_preprocess(box)
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        raw, slices = Path(scratch, "raw"), Path(scratch, "slices")
        store_pairs(pairs.resolve(), raw, slices, Params(), preprocess, patient)
        for direction in DIRECTIONS:
            network = Translator.from_folder(box, direction).generator
            rivals = baselines(direction, training)
            rows: dict[int, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for batch in read_batches(direction, 8, slices):
                prediction = display(network.translate(batch.images, batch.contrast), direction.target, preprocess.ct_window)
                seen = batch.as_displayed(direction, preprocess.ct_window)
                for side, lines in rows.items():
                    source, answer, truth = (_shrink(images, side) for images in (seen.images, prediction, seen.truth))
                    answers = {MODEL: answer} | {name: rival(source) for name, rival in rivals.items()}
                    for i, group in enumerate(batch.rows["group"]):
                        for method, images in answers.items():
                            scores = score_translation(Translation(direction, source[i], images[i], truth[i]))
                            lines.append({"group": str(group), "method": method, **{name: scores[name] for name in ON_PAIRS}})
            for side, lines in rows.items():
                table = pd.DataFrame(lines)
                model = table[table["method"] == MODEL]
                found = summarise(model) | {"slices": len(model), "patients": int(model["group"].nunique())}
                content.setdefault(str(side), {})[direction.value] = found | {"beside": _by_method(table)}
    return content


def _by_method(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each method and score: the mean over patients, and the means of the lowest and the highest patient."""
    content: dict[str, dict[str, float]] = {}
    for method, part in table.groupby("method", sort=False):
        patients = part.groupby("group")[list(ON_PAIRS)].mean()
        content[str(method)] = {
            key: float(value)
            for name in ON_PAIRS
            for key, value in (
                (name, patients[name].mean()),
                (f"{name}_least", patients[name].min()),
                (f"{name}_most", patients[name].max()),
            )
        }
    return content


def _shrink(images: Images, side: int) -> Images:
    """Means over blocks, so that (N, H, W) becomes (N, side, side)."""
    factor = images.shape[-1] // side
    return np.asarray(images.reshape(len(images), side, factor, side, factor).mean((2, 4)), np.float32)


def score_simulated(box: Path, heads: int, planes: float) -> dict[str, Any]:
    """HU errors of MR→CT on simulated volumes of any sequence, by method and tissue, beside trivial methods."""
    to_ct, mean = (Translator.from_folder(box, Direction.MR_TO_CT) for _ in range(2))
    mean.generator = _mean_ct(to_ct, heads, planes)
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + heads):
        truth = simulate_volume(seed, (*SPACING, planes), extent=(LOWEST, HIGHEST))
        predictions = {"model": translate_simulated(to_ct, truth), "mean_picture": translate_simulated(mean, truth)}
        predictions |= {name: assign(truth.mr) for name, assign in BULK_DENSITIES.items()}
        rows += [{"group": str(seed), "method": method, **_errors(ct, truth)} for method, ct in predictions.items()]
    table = pd.DataFrame(rows)
    return {str(method): _summarise(part) | {"heads": len(part)} for method, part in table.groupby("method", sort=False)}


def score_sequences(box: Path, heads: int, planes: float) -> dict[str, Any]:
    """HU errors of MR→CT on the same simulated heads under one sequence after the other."""
    to_ct, rows = Translator.from_folder(box, Direction.MR_TO_CT), []
    for seed in range(FIRST_SEED, FIRST_SEED + heads):
        for name, look in _looks(seed):
            truth = simulate_volume(seed, (*SPACING, planes), extent=(LOWEST, HIGHEST), **look)
            rows.append({"group": str(seed), "sequence": name, **_errors(translate_simulated(to_ct, truth), truth)})
    table = pd.DataFrame(rows)
    return {str(name): _summarise(part) | {"heads": len(part)} for name, part in table.groupby("sequence", sort=False)}


def score_volumes(box: Path, heads: int) -> dict[str, Any]:
    """HU errors of MR→CT on the same heads in fine voxels, by axial planes alone and by all three."""
    three, axial = (Translator.from_folder(box, Direction.MR_TO_CT) for _ in range(2))
    axial.preprocess = axial.preprocess.model_copy(update={"teacher_across": 0.0})
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + heads):
        truth = simulate_volume(seed, (FINE, FINE, FINE))
        rows += [
            {"group": str(seed), "method": name, **_errors(translate_simulated(translator, truth), truth)}
            for name, translator in ((AXIAL, axial), (THREE, three))
        ]
    table = pd.DataFrame(rows)
    return {str(method): _summarise(part) | {"heads": len(part)} for method, part in table.groupby("method", sort=False)}


def _summarise(table: pd.DataFrame) -> dict[str, float]:
    """Means with intervals, which end at 0 as errors and overlaps do."""
    return {name: max(0.0, value) for name, value in summarise(table).items()}


def _looks(seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each row of the table sees, as arguments of `simulate_volume`."""
    random = np.random.default_rng(seed)
    for name, (number, agent) in KNOWN.items():
        protocol = PROTOCOLS[number]
        drawn = draw_settings(protocol, protocol.contrast or Contrast.T2, random)
        settings = {**vars(drawn), "agent": agent}
        yield name, {"sequence": Sequence(**settings)}
    dark = (Tissue.AIR, Tissue.BONE, Tissue.CALCIUM)
    signals = {tissue: float(random.uniform(0, 0.25 if tissue in dark else 1)) * (p.density > 0) for tissue, p in PROPERTIES.items()}
    yield FREE, {"signals": signals}
    yield UNSEEN, {"sequence": SHORT_TI}


def translate_simulated(translator: Translator, simulated: SimulatedVolume) -> Images:
    """The CT in HU (x, y, z) that `translator` makes of a simulated MR."""
    volume = Volume(simulated.mr, simulated.affine, "grey", "NIfTI", "simulated MR", "mr")
    view, translation = translator.translate_volume(volume)
    return view.restore(np.stack(translation.images), translation.unit == "hu")


def _errors(prediction: Images, truth: SimulatedVolume) -> dict[str, float]:
    """Mean absolute error in HU inside the head, in all and by tissue, and the overlap of bone."""
    answer = truth.ct_truth.astype(np.float32)
    errors = {"all": mae(prediction, answer, truth.mask)}
    for name, tissues in GROUPS.items():
        part = truth.mask & np.isin(truth.labels, tissues)
        errors[name] = mae(prediction, answer, part) if part.any() else float("nan")
    errors["lesions"] = mae(prediction, answer, truth.mask & truth.lesion) if truth.lesion.any() else float("nan")
    return errors | {"bone_dice": dice(truth.mask & (prediction >= BONE), truth.mask & (answer >= BONE))}


def _mean_ct(translator: Translator, heads: int, planes: float) -> MeanPicture:
    """The mean CT of other simulated heads, prepared as for the network."""
    pictures = []
    for seed in range(MEAN_SEED, MEAN_SEED + heads):
        ct = simulate_volume(seed, (*SPACING, 2 * planes), extent=(LOWEST, HIGHEST)).ct_truth.astype(np.float32)
        slices = [Slice(plane.T, unit="hu", modality="ct", spacing=SPACING) for plane in np.moveaxis(ct, 2, 0)]
        prepared = prepare_volume(slices, Modality.CT, translator.preprocess, find_outlines(slices, Modality.CT))
        pictures += [each.array for each in prepared if each is not None]
    return MeanPicture(np.mean(pictures, axis=0, dtype=np.float32))
