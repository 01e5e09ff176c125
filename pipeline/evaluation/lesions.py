"""Does a lesion survive translation? Simulated heads are translated with and without one, all else being the same.

What the lesion changes in the translation is laid against what it changes in the truth, pixel by pixel inside the lesion. The heads come
from the simulator that taught the model, with seeds that it never saw; the score holds whatever the test slices are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.evaluation import compare
from pipeline.formats.slices import Slice
from pipeline.imaging import head
from pipeline.imaging.prepare import NoHead, find_outline, prepare
from pipeline.models.bundle import load_generator, load_preprocess, translate
from pipeline.phantom import render_pair
from pipeline.phantom.anatomy import BOTTOM, TOP
from pipeline.phantom.heads import draw_head
from pipeline.phantom.lesions import Kind, Lesion

KINDS: tuple[Kind, ...] = ("bleed", "infarct", "tumour", "hole")
MR_CONTRASTS = ("t1", "t2", "flair")
FIRST_SEED = 2**42  # far from the seeds of the demo's data and of the teacher
SMALLEST = 128  # pixels a side that a head is drawn with, as the teacher's are
VISIBLE = 0.04  # brightness, mean over the lesion, that it must change in source and truth to be asked for
SURVIVES = 0.5  # share of its contrast from which a lesion counts as kept

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Planted:
    """Pictures by modality (2, size, size), with the lesion and without, and the lesion's pixels (size, size)."""

    kind: Kind
    contrast: str
    pictures: dict[str, Images]
    where: NDArray[np.bool_]


def plant(preprocess: params.Preprocess) -> Iterator[Planted]:
    """Each kind of lesion in each MR contrast, at different places of different heads; all pictures of a head are cut alike."""
    for n in range(len(KINDS) * len(MR_CONTRASTS)):
        kind, contrast = KINDS[n % len(KINDS)], MR_CONTRASTS[n // len(KINDS)]
        g = np.random.default_rng([FIRST_SEED, n])
        centre = (float(g.choice([-1, 1]) * g.uniform(22, 38)), float(g.uniform(-45, 15)), float(g.uniform(12, 35)))
        lesion = Lesion(kind, centre, float(g.uniform(12, 20)), 8.0, int(g.integers(2**31)))
        seed, position = FIRST_SEED + n, (centre[2] - BOTTOM) / (TOP - BOTTOM)
        heads = [draw_head(seed, position, size=max(SMALLEST, preprocess.pixels), contrast=contrast, lesion=one) for one in (lesion, None)]
        files = [[Slice((file / np.float32(255)).astype(np.float32)) for file in render_pair(one, seed)] for one in heads]
        try:
            outlines = [find_outline(picture, modality) for picture, modality in zip(files[1], paths.MODALITIES, strict=True)]
        except NoHead:
            continue
        box = head.box_of(outlines[0], paths.MODALITIES[0], preprocess.margin, preprocess.upright)
        pictures = {
            modality: np.stack([prepare(file[side], modality, preprocess, box, outlines[side]).array for file in files])
            for side, modality in enumerate(paths.MODALITIES)
        }
        yield Planted(kind, contrast, pictures, head.crop(heads[0].lesion.astype(np.float32), box, preprocess.pixels) > 0.5)


def changed(pictures: Images, where: NDArray[np.bool_]) -> float:
    """Mean change of brightness that a lesion makes inside itself, pictures (2, H, W) with and without it; 0 for a lesion of no pixel."""
    return float(np.abs(pictures[0] - pictures[1])[where].mean()) if where.any() else 0.0


def contrast_kept(made: Images, truth: Images, where: NDArray[np.bool_]) -> float:
    """Slope of the change that a lesion makes in the translation on that in the truth, pictures (2, H, W) with and without it.

    1: as in truth, 0: gone, below 0: the wrong way. The truth must show the lesion.
    """
    wanted, got = ((pictures[0] - pictures[1])[where] for pictures in (truth, made))
    return float((got * wanted).sum() / np.square(wanted).sum())


def score(rules: params.Evaluate, models: Path = paths.MODELS) -> dict[str, dict[str, Any]]:
    """By direction, of the lesions that source and truth show: their number, mean contrast kept with its interval, share kept, by kind."""
    content: dict[str, dict[str, Any]] = {}
    planted = list(plant(load_preprocess(models)))
    for direction in paths.DIRECTIONS:
        source, target = direction.split("_to_")
        generator = load_generator(models, direction)
        kept: list[tuple[str, float]] = []
        for one in planted:
            seen, truth = one.pictures[source], one.pictures[target]
            if changed(seen, one.where) >= VISIBLE and changed(truth, one.where) >= VISIBLE:
                kept.append((one.kind, contrast_kept(translate(generator, seen, one.contrast), truth, one.where)))
        values = np.array([value for _, value in kept])
        found = compare.interval(values, [str(n) for n in range(len(values))], rules.bootstrap, rules.seed)
        content[direction] = {"lesions": len(values)}
        if found is not None:
            content[direction] |= dict(zip(("contrast", "contrast_low", "contrast_high"), found, strict=True))
            content[direction]["kept"] = float((values >= SURVIVES).mean())
            kinds = {kind: [value for name, value in kept if name == kind] for kind in KINDS}
            content[direction]["by_kind"] = {kind: float(np.mean(some)) for kind, some in kinds.items() if some}
    return content
