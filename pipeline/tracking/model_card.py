"""The model card: what the two generators are, what they were trained and tested on, how good they are, what they are not for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.dataset.parquet_files import read_table
from pipeline.domain import DIRECTIONS, MODALITIES, SCORES, SPLITS, Direction, Interval, Modality
from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST
from pipeline.params import Preprocess
from pipeline.sources.provenance import Provenance
from pipeline.tracking.promotion import BASELINES, sentences, test_scores

if TYPE_CHECKING:
    from pipeline.tracking.registration import Registered

_SCORES = ("mae", "ssim", "psnr", "correlation", "cycle_mae", "cycle_ssim")
_METHODS = {**BASELINES, "box": "the model in the box", "black": "a black picture"}


@dataclass(frozen=True)
class Slices:
    """The prepared slices: how many of each split and modality, whether the files of the CT knew Hounsfield units (all, some, none), and
    how many registered pairs are among those to train on."""

    counts: Mapping[str, Mapping[Modality, int]]
    hounsfield: str
    pairs: int = 0

    @classmethod
    def stored(cls) -> "Slices | None":
        """Those in data/slices; None where they are not on this machine (models alone were pulled)."""
        if not paths.INDEX.is_file():
            return None
        index = read_table(paths.INDEX, "preprocess")
        chosen = {
            (split, modality): index[(index["split"] == split) & (index["modality"] == modality)]
            for split in SPLITS
            for modality in MODALITIES
        }
        ct = chosen["train", Modality.CT]
        known = (ct["intensity_high"] - ct["intensity_low"]) != 1  # grey pictures span 0..1: which window made them is not known
        hounsfield = "none" if not known.any() else "all" if known.all() else "some"
        counts = {split: {modality: len(chosen[split, modality]) for modality in MODALITIES} for split in SPLITS}
        return cls(counts, hounsfield, int((ct["pair"] >= 0).sum()))


@dataclass(frozen=True)
class Card:
    """What the card tells.

    `model`: models/model.json. `metrics`: what the evaluation wrote. `source`: what is known of the data.
    `taught`: how many simulated pairs the generators saw. `unpaired` and `paired`: whether they learned from unpaired slices, and from
    the registered pairs among them.
    """

    model: Mapping[str, Any]
    metrics: Mapping[str, Any]
    source: Provenance | None
    slices: Slices | None
    taught: int
    unpaired: bool = True
    paired: bool = False

    def markdown(self, registered: "Mapping[Direction, Registered]") -> str:
        """The card as Markdown; `registered`: what came of the two models, by direction, empty before that."""
        lines = [
            "# Brain CT ↔ MR translation",
            "",
            "**Synthetic images, for research only. Not for diagnosis, not for treatment planning.**",
            "",
            "## What it does",
            *self._purpose(),
            "",
            "## Trained on",
            *self._training(),
            "",
            "## Scores on the test slices",
            "Means with 95 % intervals where given. Errors and brightness are of 0..1.",
            "",
            *self._scores(),
        ]
        for direction, result in registered.items():
            lines += ["", f"## {direction.model_name}: {'promoted' if result.decision.promoted else 'not promoted'}"]
            lines += [f"- {line}" for line in (*sentences(result.decision), result.champion_now())]
            lines += list(self._rivals(direction, result))
        lines += [
            "",
            "## Limits",
            "- A translation shows what such a head usually looks like, not what this head contains: lesions may vanish, appear or change.",
            "- Slice by slice: neighbouring slices of a volume need not agree.",
            "- Only axial slices of heads; other scanners, sequences, ages and diseases than in the training data were not tested.",
            "",
        ]
        return "\n".join(lines)

    def _purpose(self) -> Iterator[str]:
        preprocess, network = Preprocess.model_validate(self.model["preprocess"]), self.model["model"]
        yield (
            f"Two generators ({network['generator']}, width {network['generator_width']}) turn axial brain slices into the other"
            f" modality at {preprocess.pixels} × {preprocess.pixels} pixels: `ct-to-mr` and `mr-to-ct`."
        )
        known = self.slices.hounsfield if self.slices else "all"
        if known == "none":
            yield "The CT slices it learned from are grey pictures. Which window made them is not known."
        if known == "some":
            yield "Some of the CT slices it learned from are grey pictures whose window is not known."
        if known == "none" and not preprocess.teacher_pairs:
            yield "So its CT has no scale in Hounsfield units."
            return
        taught = " by simulated heads alone" if known == "none" else ""
        yield f"CT from {CT_LOWEST:g} to {CT_HIGHEST:g} HU was taught{taught}; what lies outside is not known to the model."

    def _training(self) -> Iterator[str]:
        known = f"{self.source.title} (digest {self.source.sha256[:12]})." if self.source else ""
        yield known or "Data not on this machine; see the run in MLflow."
        if self.slices:
            uses = {"train": "to train", "val": "to watch training", "test": "to judge"}
            counts = [(self.slices.counts[split], use) for split, use in uses.items()]
            yield "Slices: " + ", ".join(f"{count[Modality.CT]} CT and {count[Modality.MR]} MR {use}" for count, use in counts) + "."
        pairs = self.slices.pairs if self.slices and self.paired else 0
        lessons = ["unpaired slices"] if self.unpaired else []
        lessons += [f"simulated heads with known truth ({self.taught} images)"] if self.taught else []
        lessons += [f"{pairs} registered pairs of slices"] if pairs else []
        alone = " alone" if len(lessons) == 1 else ""
        yield f"Translation was learned from {', and from '.join(lessons)}{alone}."

    def _scores(self) -> Iterator[str]:
        scores = [test_scores(self.metrics, direction) for direction in DIRECTIONS]
        yield "| score | " + " | ".join(direction.arrow for direction in DIRECTIONS) + " |"
        yield "| --- |" + " --- |" * len(DIRECTIONS)
        for name in _SCORES:
            if any(name in column for column in scores):
                cells = [str(Interval.from_scores(column, name)) if name in column else "–" for column in scores]
                yield f"| {SCORES[name].label} | {' | '.join(cells)} |"

    def _rivals(self, direction: Direction, registered: "Registered") -> Iterator[str]:
        """A table of the errors of registered rivals and of the baselines on the same test slices; nothing where there is neither."""
        rows: list[tuple[str, float, Interval]] = []
        for check in registered.decision.checks:
            if check.rival and check.rival_error is not None and check.measured is not None:
                role = check.name.removeprefix("not_worse_than_")
                rows.append((f"{role} {check.rival}", check.rival_error, Interval(check.measured, check.low, check.high, signed=True)))
        for method, paired in self.metrics.get("difference", {}).items():
            if "mae" in paired.get(direction, {}):
                error = self.metrics["baselines"][method][direction]["mae"]
                rows.append((_METHODS.get(method, method), error, Interval.from_scores(paired[direction], "mae", signed=True)))
        if rows:
            yield from ("", "| compared with | its error | this model minus that |", "| --- | --- | --- |")
        for name, error, difference in rows:
            yield f"| {name} | {error:.4f} | {difference} |"
