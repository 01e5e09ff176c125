"""The words of the field that every part shares: modalities, MR contrasts, directions, scores and which way is better, intervals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

HEAD_BRIGHTNESS = 0.1  # of 0..1 in a display window: brighter pixels belong to the head


class Modality(StrEnum):
    """What made a picture."""

    CT = "ct"
    MR = "mr"

    @property
    def other(self) -> "Modality":
        """The modality that this one is translated to."""
        return Modality.MR if self is Modality.CT else Modality.CT


class Contrast(StrEnum):
    """What an MR picture is weighted by. The order is that of the networks' condition vector."""

    T1 = "t1"
    T2 = "t2"
    FLAIR = "flair"
    PD = "pd"


class Direction(StrEnum):
    """A translation: what goes in and what comes out."""

    CT_TO_MR = "ct_to_mr"
    MR_TO_CT = "mr_to_ct"

    @classmethod
    def from_target(cls, target: str) -> "Direction":
        """The direction that gives `target` (ct or mr). Raises ValueError for another word."""
        return cls.CT_TO_MR if Modality(target) is Modality.MR else cls.MR_TO_CT

    @classmethod
    def from_model_name(cls, name: str) -> "Direction":
        """The direction of the registered model `name`, such as mr-to-ct. Raises ValueError for another name."""
        return cls(name.replace("-", "_"))

    @property
    def source(self) -> Modality:
        return Modality(self.value.split("_to_")[0])

    @property
    def target(self) -> Modality:
        return Modality(self.value.split("_to_")[1])

    @property
    def opposite(self) -> "Direction":
        """The way back."""
        return Direction.MR_TO_CT if self is Direction.CT_TO_MR else Direction.CT_TO_MR

    @property
    def model_name(self) -> str:
        """Name of the registered model: ct-to-mr or mr-to-ct."""
        return self.value.replace("_", "-")

    @property
    def arrow(self) -> str:
        """For people: CT → MR or MR → CT."""
        return f"{self.source.upper()} → {self.target.upper()}"


MODALITIES = tuple(Modality)
CONTRASTS = tuple(Contrast)
DIRECTIONS = tuple(Direction)
SPLITS = ("train", "val", "test")


def encode_contrast(name: str) -> list[float]:
    """What the networks take for the MR contrast `name`: 1 at its place in CONTRASTS, zeros where it is unknown."""
    return [float(name == known) for known in CONTRASTS]


@dataclass(frozen=True)
class Score:
    """A figure that translations are judged by: its key in metrics.json, its name for people, which way is better, how to read it.

    `digits`: decimals shown. `limits`: between what it lies whatever is measured; an interval of its mean ends there.
    Every score that the evaluation gives has its line in SCORES; the report and the comparisons follow from it.
    """

    name: str
    label: str
    lower_is_better: bool
    digits: int = 3
    reading: str = ""
    limits: tuple[float, float] = (0.0, math.inf)


_CORRELATION, _SHARE, _ANY = (-1.0, 1.0), (0.0, 1.0), (-math.inf, math.inf)
SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("mae", "Mean absolute error", lower_is_better=True),
        Score("psnr", "PSNR, dB", lower_is_better=False, digits=1, limits=_ANY),
        Score("ssim", "SSIM", lower_is_better=False, limits=_CORRELATION),
        Score("correlation", "Correlation", lower_is_better=False, limits=_CORRELATION),
        Score("mae_hu", "Mean absolute error, HU", True, 1, "inside the head, within the display window"),
        Score("whole_mae", "Mean absolute error, whole picture", True, 3, "black background flatters it"),
        Score("whole_psnr", "PSNR, whole picture", False, 1, "black background flatters it", limits=_ANY),
        Score("whole_ssim", "SSIM, whole picture", False, 3, "black background flatters it", limits=_CORRELATION),
        Score("whole_ms_ssim", "Multi-scale SSIM, whole picture", False, 3, "1: same; black background flatters it", limits=_CORRELATION),
        Score("skull_dice", "Overlap of skull", False, 3, "Dice: 1 in the right place, 0 nowhere right", limits=_SHARE),
        Score("fluid_dice", "Overlap of fluid", False, 3, "Dice, as above", limits=_SHARE),
        Score("air_dice", "Overlap of air and fat", False, 3, "Dice, as above", limits=_SHARE),
        Score("outline_dice", "Outline of the head preserved", False, 3, "Dice, input against translation", limits=_SHARE),
        Score(
            "gradient_correlation",
            "Edges preserved",
            False,
            3,
            "correlation, input against translation; copying the input is perfect",
            limits=_CORRELATION,
        ),
        Score("mind_distance", "Structure moved or lost", True, 3, "MIND distance, input against translation; 0: none"),
        Score("nmi", "Information shared with the input", False, 3, "normalised mutual information; 1: none, 2: all", limits=(1.0, 2.0)),
        Score("texture_frechet", "Texture unlike real slices, Fréchet", True, 2, "Fréchet distance; 0 is best"),
        Score("texture_kernel", "Texture unlike real slices, kernel", True, 2, "kernel distance; 0 is best", limits=_ANY),
        Score(
            "uncertainty_correlation",
            "Does uncertainty point at errors?",
            False,
            3,
            "correlation; 0: it tells nothing, 1: every error",
            limits=_CORRELATION,
        ),
        Score("cycle_mae", "Cycle error", True, 3, "lost there and back; a low one does not show that the translation is right"),
        Score("cycle_ssim", "Cycle SSIM", False, 3, "similarity after there and back", limits=_CORRELATION),
        Score("volume_mae_hu", "MAE of volumes, HU", True, 1, "inside the body, as SynthRAD2025"),
        Score("volume_psnr", "PSNR of volumes, dB", False, 1, "inside the body, as SynthRAD2025", limits=_ANY),
        Score(
            "volume_ms_ssim",
            "Multi-scale SSIM of volumes",
            False,
            3,
            "in three dimensions inside the body, as SynthRAD2025",
            limits=_CORRELATION,
        ),
        Score("me_hu", "Mean error, HU", True, 1, "bias inside the body; 0 is best, below it the translation is too low", limits=_ANY),
        Score("air_mae_hu", "MAE of air, HU", True, 1, "where the truth lies at -300 HU or below, inside the body"),
        Score("soft_mae_hu", "MAE of soft tissue, HU", True, 1, "where the truth lies between -300 and 250 HU"),
        Score("bone_mae_hu", "MAE of bone, HU", True, 1, "where the truth lies at 250 HU or above"),
        Score("bone_dice", "Overlap of bone", False, 3, "Dice of 250 HU and more", limits=_SHARE),
        Score("bone_hd95_mm", "Distance of bone surfaces, mm", True, 1, "95 % Hausdorff distance of 250 HU and more"),
        Score("water_path_mm", "Water-equivalent path, mm", True, 2, "mean difference along rays through the head"),
        Score("water_path_percent", "Water-equivalent path, %", True, 2, "mean difference along rays through the head"),
        Score("spread", "Spread", False, 2, "how much translations differ from each other, relative to real slices; near 0: collapsed"),
    )
}
# Shown first: charts in MLflow, dvc metrics, tables in summaries. The rest stands in metrics.json and the report.
HEADLINE_SCORES = ("mae", "correlation", "ssim", "cycle_mae", "cycle_ssim", "spread")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval; `low` and `high` are None where one cannot be given.

    `digits`: decimals shown. `signed`: a difference, which is shown with its sign and one decimal more.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    digits: int = 3
    signed: bool = False

    @classmethod
    def from_scores(cls, scores: Mapping[str, float], name: str, signed: bool = False) -> "Interval":
        """The score `name` with `<name>_low` and `<name>_high` beside it, as metrics.json holds them. Raises KeyError without it."""
        digits = SCORES[name].digits if name in SCORES else 3
        return cls(scores[name], scores.get(f"{name}_low"), scores.get(f"{name}_high"), digits, signed)

    def as_scores(self, name: str) -> dict[str, float]:
        """As metrics.json holds it: `name`, and `name_low` and `name_high` where they are known, within the limits of the score."""
        least, most = SCORES[name].limits if name in SCORES and not self.signed else _ANY
        ends = {f"{name}_low": self.low, f"{name}_high": self.high}
        return {name: self.mean} | {key: min(max(value, least), most) for key, value in ends.items() if value is not None}

    def __str__(self) -> str:
        sign, digits = ("+", self.digits + 1) if self.signed else ("", self.digits)
        mean, low, high = (None if value is None else f"{value:{sign}z.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean}" if low is None or high is None else f"{mean} [{low}, {high}]"


def error_score(scores: Mapping[str, object]) -> str:
    """The error that `scores` are compared by: `mae` where there is truth, else `cycle_mae`."""
    return "mae" if "mae" in scores else "cycle_mae"
