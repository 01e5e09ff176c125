"""What the model in the box is worth: measured, as pipeline/box/scores.json, and said, as pipeline/box/MODEL_CARD.md.

python benchmarks/box_card.py --pairs FOLDER --patient '^(\\d+)\\d{3}$'    # measures all, then writes both; minutes on one core
python benchmarks/box_card.py --card                                      # the card alone, from the scores.json that is there

FOLDER holds registered pairs of real slices, as for `ctmr evaluate`. `--heads` and `--planes` make a smaller measurement.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.atomic import new_file, write_json
from pipeline.domain import DIRECTIONS, Contrast, Direction, Interval, Modality
from pipeline.evaluation.batches import read_batches
from pipeline.evaluation.brain_window import dice
from pipeline.evaluation.bulk_density import BULK_DENSITIES
from pipeline.evaluation.mean_picture import MeanPicture
from pipeline.evaluation.registered_pairs import store_pairs
from pipeline.evaluation.results import summarise
from pipeline.evaluation.slice_scores import Translation, score_translation
from pipeline.evaluation.synthrad import mae
from pipeline.evaluation.volume_pairs import LABELS as BASELINES
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=Path, default=paths.BOX, help="folder of the model; scores and card are written to it")
    parser.add_argument("--pairs", type=Path, help="registered pairs of real slices")
    parser.add_argument("--patient", help="regular expression whose group names the patient in the pairs' file names")
    parser.add_argument("--heads", type=int, default=6, help="simulated heads for each table")
    parser.add_argument("--planes", type=float, default=10.0, help="mm from plane to plane of them")
    parser.add_argument("--card", action="store_true", help="write the card alone")
    options = parser.parse_args()
    if not options.card:
        write_json(options.box / paths.BOX_SCORES.name, measure(options))
    text = write_card(options.box)
    with new_file(options.box / paths.BOX_CARD.name) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the card, and the digests of the weights that they belong to."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a trainer may be at work beside it
    facts = json.loads((options.box / paths.MODEL_JSON.name).read_text(encoding="utf-8"))
    content: dict[str, Any] = {"weights": {name: entry["sha256"] for name, entry in facts["directions"].items()}}
    steps: dict[str, Callable[[], Any]] = {
        "simulated": lambda: score_simulated(options.box, options.heads, options.planes),
        "sequences": lambda: score_sequences(options.box, options.heads, options.planes),
        "volumes": lambda: score_volumes(options.box, options.heads),
    }
    if options.pairs:
        steps = {"pairs": lambda: score_pairs(options.box, options.pairs, options.patient), **steps}
    for name, step in steps.items():
        began = time.monotonic()
        content[name] = step()
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return content


def score_pairs(box: Path, pairs: Path, patient: str | None) -> dict[str, Any]:
    """Scores on real pairs, by side in pixels and direction: mean over patients with intervals, pictures as displayed.

    The network always sees its own size. At half that size its pictures and the truth are averaged over 2 × 2 pixels.
    """
    preprocess = load_preprocess(box)
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        raw, slices = Path(scratch, "raw"), Path(scratch, "slices")
        store_pairs(pairs.resolve(), raw, slices, Params(), preprocess, patient)
        for direction in DIRECTIONS:
            network = Translator.from_folder(box, direction).generator
            rows: dict[int, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for batch in read_batches(direction, 8, slices):
                prediction = display(network.translate(batch.images, batch.contrast), direction.target, preprocess.ct_window)
                seen = batch.as_displayed(direction, preprocess.ct_window)
                for side, lines in rows.items():
                    source, answer, truth = (_shrink(images, side) for images in (seen.images, prediction, seen.truth))
                    for i, group in enumerate(batch.rows["group"]):
                        scores = score_translation(Translation(direction, source[i], answer[i], truth[i]))
                        lines.append({"group": str(group), **{name: scores[name] for name in ("mae", "correlation", "ssim")}})
            for side, lines in rows.items():
                table = pd.DataFrame(lines)
                found = summarise(table) | {"slices": len(table), "patients": int(table["group"].nunique())}
                content.setdefault(str(side), {})[direction.value] = found
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
        predictions = {"model": _to_hounsfield(to_ct, truth), "mean_picture": _to_hounsfield(mean, truth)}
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
            rows.append({"group": str(seed), "sequence": name, **_errors(_to_hounsfield(to_ct, truth), truth)})
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
            {"group": str(seed), "method": name, **_errors(_to_hounsfield(translator, truth), truth)}
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


def _to_hounsfield(translator: Translator, simulated: SimulatedVolume) -> Images:
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


def write_card(box: Path) -> str:
    """The model card, from scores.json, model.json, origin.json and params.yaml in `box`. No figure of it is typed by hand."""
    scores, model, origin = (
        json.loads((box / name).read_text(encoding="utf-8"))
        for name in (paths.BOX_SCORES.name, paths.MODEL_JSON.name, paths.BOX_ORIGIN.name)
    )
    lines = ["# The model in the box", "", *_introduction(model, origin)]
    if "pairs" in scores:
        lines += ["", "## On real pairs", *_pairs(scores["pairs"], model["preprocess"]["pixels"])]
    lines += ["", "## MR → CT in Hounsfield units, on simulated heads", *_simulated(scores["simulated"])]
    if "volumes" in scores:
        lines += ["", "## MR → CT of fine volumes, on simulated heads", *_volumes(scores["volumes"])]
    lines += ["", "## MR → CT by sequence, on simulated heads", *_sequences(scores["sequences"])]
    return "\n".join([*lines, "", *LIMITS, ""])


def _introduction(model: Mapping[str, Any], origin: Mapping[str, Any]) -> Iterator[str]:
    networks, preprocess = model["model"], model["preprocess"]
    yield "**Synthetic images, for research only. Not for diagnosis, not for treatment planning.**"
    yield ""
    yield f"Two generators ({networks['generator']}, width {networks['generator_width']}), CT → MR and MR → CT, on slices of"
    frame = f", {preprocess['field_of_view'] / preprocess['pixels']:g} mm each" if preprocess["field_of_view"] else ""
    yield f"{preprocess['pixels']} × {preprocess['pixels']} pixels{frame}. **Taught by simulated heads alone**: no patient is in them."
    yield "They come under the licence of this project."
    yield ""
    commit = f"commit `{origin['commit']}`{', with changes' if origin['changed'] else ''}" if origin["commit"] else "a copy without git"
    yield f"Made by `python -m pipeline.training.box` of {commit}: {origin['steps']} of {origin['planned_steps']} steps, torch"
    yield f"{origin['torch']}, {origin['cpu']}. `params.yaml` beside this card has every knob."
    yield ""
    digests = (f"{name} `{entry['sha256']}`" for name, entry in model["directions"].items())
    yield f"SHA-256: {'; '.join(digests)}."


def _pairs(pairs: Mapping[str, Any], own: int) -> Iterator[str]:
    some = next(iter(next(iter(pairs.values())).values()))
    yield f"{some['slices']} registered slices of {some['patients']} patients that no training saw; inside the head, brightness 0 to 1,"
    yield "means over patients with 95 % intervals. So few patients make wide intervals, and say little of others."
    yield ""
    yield "| pixels a side | direction | mean absolute error | correlation | SSIM |\n| --- | --- | --- | --- | --- |"
    for side in map(str, SIDES):
        directions = pairs[side]
        size = side if int(side) == own else f"{side}, averaged from {own}"
        for name, scores in directions.items():
            cells = (Interval.from_scores(scores, score) for score in ("mae", "correlation", "ssim"))
            yield f"| {size} | {Direction(name).arrow} | {' | '.join(map(str, cells))} |"


def _simulated(methods: Mapping[str, Any]) -> Iterator[str]:
    count = methods["model"]["heads"]
    yield f"Mean absolute error in HU inside {count} heads that no training saw, each under a sequence of its own, with 95 % intervals."
    yield "The simulator is the teacher's: this says what was learned of its lesson, not how right it is on patients."
    yield ""
    labels = {"model": "this model", **{name: label[0].lower() + label[1:] for name, label in BASELINES.items()}}
    methods = {name: methods[name] for name in labels}
    yield f"| tissue | {' | '.join(labels.values())} |\n| --- |{' --- |' * len(methods)}"
    for tissue in ("all", *GROUPS, "lesions"):
        yield f"| {tissue} | {' | '.join(_cell(scores, tissue, 0) for scores in methods.values())} |"
    yield f"| overlap of bone (Dice) | {' | '.join(_cell(scores, 'bone_dice', 2) for scores in methods.values())} |"


def _volumes(methods: Mapping[str, Any]) -> Iterator[str]:
    yield f"{methods[THREE]['heads']} whole heads in voxels of {FINE:g} mm. Volumes as fine as this are translated in three planes."
    yield ""
    columns = ("all", "bone", "air", "muscle and skin", "fluid")
    yield f"| planes | {' | '.join(f'{column}, HU' for column in columns)} | overlap of bone (Dice) |"
    yield f"| --- |{' --- |' * (len(columns) + 1)}"
    for name in (AXIAL, THREE):
        scores = methods[name]
        yield f"| {name} | {' | '.join(_cell(scores, column, 0) for column in columns)} | {_cell(scores, 'bone_dice', 2)} |"


def _sequences(sequences: Mapping[str, Any]) -> Iterator[str]:
    yield f"The same {next(iter(sequences.values()))['heads']} heads under every sequence. Training draws all of them but the last."
    yield ""
    columns = {"all": "MAE, HU", "bone": "bone, HU", "grey matter": "grey matter, HU", "fluid": "fluid, HU"}
    yield f"| sequence | {' | '.join(columns.values())} | overlap of bone (Dice) |\n| --- |{' --- |' * (len(columns) + 1)}"
    for name in (*KNOWN, FREE, UNSEEN):
        scores = sequences[name]
        yield f"| {name} | {' | '.join(_cell(scores, column, 0) for column in columns)} | {_cell(scores, 'bone_dice', 2)} |"


def _cell(scores: Mapping[str, float], name: str, digits: int) -> str:
    """A mean with its interval; a dash where no head has the tissue."""
    if name not in scores:
        return "–"
    return str(Interval(scores[name], scores.get(f"{name}_low"), scores.get(f"{name}_high"), digits))


LIMITS = (
    "## Limits",
    "- A translation shows what such a head usually looks like, not what this head contains. Lesions may vanish, appear or change.",
    "- CT shows little of grey and white matter, MR little of bone: what the source does not show is made up.",
    "- Volumes of thick slices are translated slice by slice: neighbours need not agree. Detail finer than the network's pixels is lost.",
    "- Whole heads of adults. After surgery, with metal, of children, below the skull base: rare or crude in the simulator.",
    "- Real scans differ from simulated ones in ways that nobody knows in advance. Score it on pairs of your own: `ctmr evaluate PAIRS`.",
)


if __name__ == "__main__":
    main()
