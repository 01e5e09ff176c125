"""What a picture of a head shows, judged from its pixels alone: CT or MR, and which MR contrast.

A few numbers describe how brightness is spread inside the head and from its middle to its rim (bone is white in CT and black in MR;
fluid in the middle is bright in T2, dark in T1 and FLAIR). Two logistic regressions on these numbers judge. Their weights are in
appearance.json; benchmarks/fit_appearance.py fitted them on simulated heads alone, and docs/data.md says how well they do on real slices
labelled by eye.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import special

from pipeline.imaging.outline import Outline, Picture, find_outline

WEIGHTS = Path(__file__).with_suffix(".json")
SIDE = 96  # pixels that a head's bounding rectangle is brought to
LEVELS = (2, 5, 10, 25, 50, 75, 90, 95, 98)  # percentiles
HISTOGRAM = (0, 0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, np.inf)
RINGS = np.arange(0.1, 1.1, 0.08)


# Which of the numbers carry over from simulated heads to real ones: how grey levels are shared out depends on a file's display, which
# tells CT (white bone) from MR but blurs contrasts; how brain and middle are graded tells contrasts apart.
COUNTS = {"shares": len(HISTOGRAM) - 1, "skews": 3, "brain": len(LEVELS), "middle": len(LEVELS), "rim": 4, "rings": len(RINGS)}
USED = {"modality": ("shares", "rim", "rings"), "contrast": ("skews", "brain", "middle", "rim", "rings")}


def features(picture: Picture, found: Outline) -> NDArray[np.float64]:
    """The numbers that describe a picture (H, W) of 0..1 with its head's outline, free of its size and, mostly, of its brightness."""
    top, bottom, left, right = found.bounds
    height, width = picture.shape
    box = (max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom))
    small = np.asarray(
        Image.fromarray(np.asarray(picture, np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box), np.float64
    )
    areas, ring_areas, rim_area = _areas()
    head, brain, middle, core = (small[area] for area in areas)
    typical = max(float(np.median(brain)), 0.02)
    shares = np.histogram(head / max(float(np.percentile(head, 99.5)), 0.02), HISTOGRAM)[0] / head.size
    rings = [np.median(small[area]) for area in ring_areas]
    rim = small[rim_area]
    skews = [np.tanh(_skew(part)) for part in (middle, brain, core)]
    levels = np.concatenate([np.percentile(brain, LEVELS), np.percentile(middle, LEVELS), np.percentile(rim, (25, 50, 75, 95)), rings])
    return np.concatenate([shares, skews, levels / typical])


def describe(picture: Picture, found: Outline, modality: str) -> NDArray[np.float64]:
    """`features` of a picture with its head's outline in pixels, `found` as in a picture of `modality`.

    Looks are described with one way of finding the head, else CT and MR would differ by that alone.
    """
    return features(picture, found if modality == "mr" else find_outline(picture, "mr") or found)


def edge_brightness(picture: Picture) -> float:
    """Median brightness near the picture's edges, but not at them, where white frames and rulers are."""
    first, last = (max(1, round(share * min(picture.shape))) for share in (0.03, 0.06))
    ring = np.zeros(picture.shape, bool)
    ring[first:-first, first:-first] = True
    ring[last:-last, last:-last] = False
    return float(np.median(picture[ring])) if ring.any() else 0.0


def ct_likelihood(described: NDArray[np.float64]) -> float:
    """How likely a picture with these `features` is a CT rather than an MR, 0..1."""
    return float(special.expit(_scores("modality", described)[0]))


def mr_contrast(described: NDArray[np.float64]) -> tuple[str, float]:
    """The likeliest MR contrast ("t1", "t2" or "flair") of a picture with these `features`, and its probability.

    Proton density is not told apart from T2 and FLAIR by these numbers, and only known where a file says so.
    """
    chances = special.softmax(_scores("contrast", described))
    best = int(chances.argmax())
    return str(_weights()["contrast"]["classes"][best]), float(chances[best])


def columns(model: str) -> NDArray[np.bool_]:
    """Which of the `features` the regression `model` ("modality" or "contrast") looks at."""
    return np.repeat([name in USED[model] for name in COUNTS], list(COUNTS.values()))


def _scores(model: str, described: NDArray[np.float64]) -> NDArray[np.float64]:
    numbers = _weights()[model]
    standard = (described[..., columns(model)] - np.array(numbers["mean"])) / np.array(numbers["scale"])
    return np.asarray(np.clip(standard, -5, 5) @ np.array(numbers["weights"]).T + np.array(numbers["bias"]))


@cache
def _weights() -> dict[str, Any]:
    return dict(json.loads(WEIGHTS.read_text(encoding="utf-8")))


def _skew(values: NDArray[np.float64]) -> float:
    """Third standardised moment; 0 for equal values. (scipy.stats.skew spends most of its time on checks.)"""
    away = values - values.mean()
    variance = float((away * away).mean())
    return float((away**3).mean() / variance**1.5) if variance > 1e-12 else 0.0


@cache
def _areas() -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]], NDArray[np.bool_]]:
    """Masks: whole head, brain, middle and core of it; rings from the middle outwards; rim with scalp and skull.

    Distances are 1 on the ellipse in the head's bounding rectangle.
    """
    steps = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    radius = np.hypot(steps[:, None], steps[None])
    rings = [(radius >= ring) & (radius < ring + 0.08) for ring in RINGS]
    return [radius < reach for reach in (1.0, 0.75, 0.45, 0.3)], rings, (radius > 0.88) & (radius < 1.02)
