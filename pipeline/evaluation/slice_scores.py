"""Scores of one translated slice. A new score is a function of a `Translation` in SLICE_SCORES and its line in `pipeline.domain.SCORES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import HEAD_BRIGHTNESS, Direction, Modality
from pipeline.evaluation import brain_window, structure
from pipeline.evaluation.similarity import correlation, inside_head, mae, masked_mean, multi_scale_ssim, psnr, ssim_maps

Image = NDArray[np.float32]


class NotApplicable(Exception):
    """The score has no question to answer here: there is no truth, or the slice is no CT."""


@dataclass(frozen=True)
class Translation:
    """One slice (H, W) in 0..1 as translated, and what is known of it; scores that need what is None do not apply.

    `returned`: the translation translated back. `uncertainty`: of the translation, 0..1. `window_width`: HU from black to white, NaN where
    unknown.
    """

    direction: Direction
    source: Image
    prediction: Image
    truth: Image | None = None
    returned: Image | None = None
    uncertainty: Image | None = None
    window_width: float = float("nan")

    @cached_property
    def target(self) -> Image:
        """The truth. Raises NotApplicable where there is none."""
        if self.truth is None:
            raise NotApplicable
        return self.truth

    @cached_property
    def head(self) -> NDArray[np.bool_]:
        """Pixels inside the head, by source and truth together."""
        return inside_head(self.source, self.target)

    @cached_property
    def ssim_maps(self) -> NDArray[np.float64]:
        return ssim_maps(self.prediction, self.target)

    @cached_property
    def way_back(self) -> tuple[Image, NDArray[np.bool_]]:
        """What came back, and the pixels of the source's head. Raises NotApplicable where nothing was translated back."""
        if self.returned is None:
            raise NotApplicable
        return self.returned, self.source > HEAD_BRIGHTNESS

    @cached_property
    def tissue_dice(self) -> dict[str, float]:
        """Raises NotApplicable where the target is no CT."""
        if self.direction.target is not Modality.CT:
            raise NotApplicable
        return brain_window.tissue_dice(self.prediction, self.target, self.head)

    @cached_property
    def preservation(self) -> dict[str, float]:
        """Raises NotApplicable for baselines, which are not translated back: those that copy are perfect in it."""
        if self.returned is None:
            raise NotApplicable
        return structure.preservation(self.source, self.prediction)


def mae_hu(translation: Translation) -> float:
    """The error inside the head in Hounsfield units, both pictures clipped to the window of the truth."""
    if not np.isfinite(translation.window_width):
        raise NotApplicable
    return mae(translation.prediction, translation.target, translation.head) * translation.window_width


def uncertainty_correlation(translation: Translation) -> float:
    """Correlation of uncertainty with error, pixel by pixel inside the head."""
    if translation.uncertainty is None:
        raise NotApplicable
    return correlation(translation.uncertainty, np.abs(translation.prediction - translation.target), translation.head)


def cycle_ssim(translation: Translation) -> float:
    returned, head = translation.way_back
    return masked_mean(np.prod(ssim_maps(returned, translation.source), axis=0), head)


SLICE_SCORES: Mapping[str, Callable[[Translation], float]] = {
    "mae": lambda t: mae(t.prediction, t.target, t.head),
    "psnr": lambda t: psnr(t.prediction, t.target, t.head),
    "ssim": lambda t: masked_mean(np.prod(t.ssim_maps, axis=0), t.head),
    "correlation": lambda t: correlation(t.prediction, t.target, t.head),
    "mae_hu": mae_hu,
    "whole_mae": lambda t: mae(t.prediction, t.target, np.ones_like(t.head)),
    "whole_psnr": lambda t: psnr(t.prediction, t.target, np.ones_like(t.head)),
    "whole_ssim": lambda t: float(np.prod(t.ssim_maps, axis=0).mean()),
    "whole_ms_ssim": lambda t: multi_scale_ssim(t.prediction, t.target, t.ssim_maps),
    "skull_dice": lambda t: t.tissue_dice["skull_dice"],
    "air_dice": lambda t: t.tissue_dice["air_dice"],
    "fluid_dice": lambda t: t.tissue_dice["fluid_dice"],
    "outline_dice": lambda t: t.preservation["outline_dice"],
    "gradient_correlation": lambda t: t.preservation["gradient_correlation"],
    "mind_distance": lambda t: t.preservation["mind_distance"],
    "nmi": lambda t: t.preservation["nmi"],
    "uncertainty_correlation": uncertainty_correlation,
    "cycle_mae": lambda t: mae(t.way_back[0], t.source, t.way_back[1]),
    "cycle_ssim": cycle_ssim,
}


def score_translation(translation: Translation) -> dict[str, float]:
    """Every score that applies; NaN where one is undefined. Raises ValueError for NaN pixels or different sizes."""
    for name, image in (("translation", translation.prediction), ("truth", translation.truth)):
        if image is not None and not np.isfinite(image).all():
            raise ValueError(f"{name} holds NaN or infinite pixels")
        if image is not None and image.shape != translation.source.shape:
            raise ValueError(f"{name} {image.shape} and source {translation.source.shape} differ in size")
    scores = {}
    for name, score in SLICE_SCORES.items():
        try:
            scores[name] = score(translation)
        except NotApplicable:
            continue
    return scores
