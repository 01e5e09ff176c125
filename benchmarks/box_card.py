"""What the model in the box is worth: measured, as pipeline/box/scores.json, and said, as pipeline/box/MODEL_CARD.md.

python benchmarks/box_card.py --pairs FOLDER --patient '^(\\d+)\\d{3}$'    # measures all, then writes both; minutes on one core
python benchmarks/box_card.py --card                                      # the card alone, from the scores.json that is there

FOLDER holds registered pairs of real slices, as for `ctmr evaluate`. `--heads` and `--planes` make a smaller measurement, `--only pairs`
renews that part alone.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.box_scores import AXIAL, FINE, FREE, GROUPS, KNOWN, ON_PAIRS, PARTS, SIDES, THREE, UNSEEN, measure
from pipeline import paths
from pipeline.atomic import new_file, write_json
from pipeline.domain import Direction, Interval
from pipeline.evaluation.baselines import LABELS as RIVALS
from pipeline.evaluation.scoring import MODEL
from pipeline.evaluation.volume_pairs import LABELS as BASELINES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--box", type=Path, default=paths.BOX, help="folder of the model; scores and card are written to it")
    parser.add_argument("--pairs", type=Path, help="registered pairs of real slices")
    parser.add_argument("--patient", help="regular expression whose group names the patient in the pairs' file names")
    parser.add_argument("--heads", type=int, default=6, help="simulated heads for each table")
    parser.add_argument("--planes", type=float, default=10.0, help="mm from plane to plane of them")
    parser.add_argument("--training", type=Path, default=paths.SLICES, help="stored slices that baselines on real pairs are taken from")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure; the others stay as they are")
    parser.add_argument("--card", action="store_true", help="write the card alone")
    options = parser.parse_args()
    if not options.card:
        write_json(options.box / paths.BOX_SCORES.name, measure(options))
    text = write_card(options.box)
    with new_file(options.box / paths.BOX_CARD.name) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)


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
            cells = (Interval.from_scores(scores, score) for score in ON_PAIRS)
            yield f"| {size} | {Direction(name).arrow} | {' | '.join(map(str, cells))} |"
    if all("beside" in scores for directions in pairs.values() for scores in directions.values()):
        yield ""
        yield f"Beside methods that look at no more than brightness, at {min(SIDES)} pixels: means over patients (lowest to highest),"
        yield "no intervals. Fewer than six patients are too few to tell which method is better."
        for name, scores in pairs[str(min(SIDES))].items():
            yield from _beside(Direction(name), scores["beside"])


def _beside(direction: Direction, methods: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"\n| {direction.arrow} | mean absolute error | correlation | SSIM |\n| --- | --- | --- | --- |"
    for method, label in {MODEL: "**this model**", **RIVALS}.items():
        if method in methods:
            scores = methods[method]
            cells = (f"{scores[name]:.3f} ({scores[f'{name}_least']:.3f} to {scores[f'{name}_most']:.3f})" for name in ON_PAIRS)
            yield f"| {label[0].lower() + label[1:]} | {' | '.join(cells)} |"


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
