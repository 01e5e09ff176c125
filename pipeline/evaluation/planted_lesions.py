"""Does a lesion survive translation? Simulated heads are translated with and without one, all else being the same.

What the lesion changes in the translation is laid against what it changes in the truth, pixel by pixel inside the lesion. The heads come
from the simulator that taught the model, with seeds that it never saw; the score holds whatever the test slices are.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.domain import DIRECTIONS, MODALITIES, Contrast, Modality
from pipeline.evaluation.intervals import mean_interval
from pipeline.formats.slices import Slice
from pipeline.imaging import head
from pipeline.imaging.intensity import display
from pipeline.imaging.prepare import NoHead, find_outline, prepare
from pipeline.models.folder import load_preprocess
from pipeline.models.inference import load_generator, translate
from pipeline.parallel import in_parallel
from pipeline.params import Preprocess
from pipeline.phantom import render_pair
from pipeline.phantom.anatomy import BOTTOM, TOP
from pipeline.phantom.heads import draw_head
from pipeline.phantom.lesions import Kind, Lesion

KINDS: tuple[Kind, ...] = ("bleed", "infarct", "tumour", "hole")
MR_CONTRASTS = (Contrast.T1, Contrast.T2, Contrast.FLAIR)
FIRST_SEED = 2**42  # far from the seeds of the demo's data and of the teacher
SMALLEST = 128  # pixels a side that a head is drawn with, as the teacher's are
VISIBLE = 0.04  # brightness, mean over the lesion, that it must change in source and truth to be asked for
SURVIVES = 0.5  # share of its contrast from which a lesion counts as surviving

Images = NDArray[np.float32]


@dataclass(frozen=True)
class PlantedLesion:
    """By modality (2, size, size), with the lesion and without: `inputs` as the networks see them, `pictures` as displayed; its mask."""

    kind: Kind
    contrast: Contrast
    inputs: dict[Modality, Images]
    pictures: dict[Modality, Images]
    mask: NDArray[np.bool_]

    def is_visible(self, modality: Modality) -> bool:
        return mean_change(self.pictures[modality], self.mask) >= VISIBLE


def plant_lesions(preprocess: Preprocess) -> list[PlantedLesion]:
    """Each kind of lesion in each MR contrast, at different places of different heads; all pictures of a head are cropped alike."""
    tasks = [(n, preprocess) for n in range(len(KINDS) * len(MR_CONTRASTS))]
    with ThreadPoolExecutor(1) as here:  # more gain nothing, but a cluster does
        return [lesion for lesion in in_parallel(_plant, tasks, 1, executor=here) if lesion is not None]


def _plant(task: tuple[int, Preprocess]) -> PlantedLesion | None:
    """Lesion number n; None where no head is found in the pictures."""
    n, preprocess = task
    kind, contrast = KINDS[n % len(KINDS)], MR_CONTRASTS[n // len(KINDS)]
    g = np.random.default_rng([FIRST_SEED, n])
    centre = (float(g.choice([-1, 1]) * g.uniform(22, 38)), float(g.uniform(-45, 15)), float(g.uniform(12, 35)))
    lesion = Lesion(kind, centre, float(g.uniform(12, 20)), 8.0, int(g.integers(2**31)))
    seed, position = FIRST_SEED + n, (centre[2] - BOTTOM) / (TOP - BOTTOM)
    size = max(SMALLEST, preprocess.pixels)
    heads = [draw_head(seed, position, size=size, contrast=contrast, lesion=planted) for planted in (lesion, None)]
    files = [[Slice((file / np.float32(255)).astype(np.float32)) for file in render_pair(drawn, seed)] for drawn in heads]
    try:
        outlines = [find_outline(picture, modality) for picture, modality in zip(files[1], MODALITIES, strict=True)]
    except NoHead:
        return None
    box = head.enclose(outlines[0], Modality.CT, preprocess.margin, preprocess.upright)
    inputs = {
        modality: np.stack([prepare(file[side], modality, preprocess, box, outlines[side]).array for file in files])
        for side, modality in enumerate(MODALITIES)
    }
    pictures = {modality: display(images, modality, preprocess.ct_window) for modality, images in inputs.items()}
    return PlantedLesion(kind, contrast, inputs, pictures, head.crop(heads[0].lesion.astype(np.float32), box, preprocess.pixels) > 0.5)


def mean_change(pictures: Images, mask: NDArray[np.bool_]) -> float:
    """Mean change of brightness that a lesion makes inside itself, pictures (2, H, W) with and without it; 0 for a lesion of no pixel."""
    return float(np.abs(pictures[0] - pictures[1])[mask].mean()) if mask.any() else 0.0


def contrast_ratio(predictions: Images, truth: Images, mask: NDArray[np.bool_]) -> float:
    """Slope of the change that a lesion makes in the translation on that in the truth, pictures (2, H, W) with and without it.

    1: as in truth, 0: gone, below 0: the wrong way. The truth must show the lesion.
    """
    true, predicted = ((pictures[0] - pictures[1])[mask] for pictures in (truth, predictions))
    return float((predicted * true).sum() / np.square(true).sum())


def score_lesions(models: Path = paths.MODELS) -> dict[str, dict[str, Any]]:
    """By direction, of the lesions that source and truth show: number, mean contrast ratio with its interval, share that survives, by kind.

    Each lesion lies in a head of its own, so that lesions are independent.
    """
    content: dict[str, dict[str, Any]] = {}
    preprocess = load_preprocess(models)
    planted = plant_lesions(preprocess)
    for direction in DIRECTIONS:
        generator = load_generator(models, direction)
        visible = [lesion for lesion in planted if lesion.is_visible(direction.source) and lesion.is_visible(direction.target)]
        predictions = [
            display(translate(generator, lesion.inputs[direction.source], lesion.contrast), direction.target, preprocess.ct_window)
            for lesion in visible
        ]
        ratios = np.array(
            [
                contrast_ratio(prediction, lesion.pictures[direction.target], lesion.mask)
                for prediction, lesion in zip(predictions, visible, strict=True)
            ]
        )
        scores: dict[str, Any] = {"lesions": len(visible)}
        interval = mean_interval(ratios, [str(n) for n in range(len(ratios))]) if len(ratios) else None
        if interval is not None:
            scores |= interval.as_scores("contrast") | {"survival": float((ratios >= SURVIVES).mean())}
            by_kind = {kind: [ratio for lesion, ratio in zip(visible, ratios, strict=True) if lesion.kind == kind] for kind in KINDS}
            scores["by_kind"] = {kind: float(np.mean(values)) for kind, values in by_kind.items() if values}
        content[direction.value] = scores
    return content
