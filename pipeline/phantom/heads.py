"""Simulated heads with known truth: one slice, several slices of one subject, or many seeds at once.

Everything is a pure function of the arguments: the same seed gives the same head in any process.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from pipeline.phantom.anatomy import cut, draw_subject
from pipeline.phantom.atlas import atlas
from pipeline.phantom.signal import ct_picture, draw_sequence, labels, mr_picture

Floats = NDArray[np.float32]
FIELD_OF_VIEW = 256.0  # mm a side


@dataclass(frozen=True)
class Head:
    """One slice of one simulated head; CT and MR lie on the same pixel grid.

    ct (size, size) float32 Hounsfield units; mr (size, size) float32 0..1; mask (size, size) bool, the head with its scalp;
    labels (size, size) uint8 of `Tissue`; lesion (size, size) bool; contrast t1, t2, flair or pd; agent: contrast agent given;
    spacing in mm a pixel; seed and position (0 skull base .. 1 vertex) that made it.
    """

    ct: Floats
    mr: Floats
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    contrast: str
    agent: bool
    spacing: float
    seed: int
    position: float


def simulate(seed: int, *, size: int = 256, contrast: str | None = None) -> Head:
    """A slice at a height drawn from `seed`. Contrast: t1, t2, flair or pd; drawn from the seed when None.

    Raises ValueError on another contrast.
    """
    position = float(np.random.default_rng([seed, 4]).uniform(0, 1))
    return simulate_subject(seed, [position], size=size, contrast=contrast)[0]


def simulate_subject(seed: int, positions: Sequence[float], *, size: int = 256, contrast: str | None = None) -> list[Head]:
    """Slices of one subject at `positions` (0 skull base .. 1 vertex), all by the same MR sequence.

    Raises ValueError on a contrast other than t1, t2, flair, pd.
    """
    subject = draw_subject(seed)
    g = np.random.default_rng([seed, 5])
    sequence = draw_sequence(g, contrast)
    spacing = FIELD_OF_VIEW / size
    thickness = float(g.uniform(1.0, 6.0))
    heads = []
    for position in positions:
        plane = cut(subject, position, size, spacing, thickness)
        own = np.random.default_rng([seed, 6, round(position * 1e6)])
        heads.append(
            Head(
                ct=ct_picture(plane, spacing, own),
                mr=mr_picture(plane, spacing, sequence, own),
                mask=plane.head < 0,
                labels=labels(plane.layers),
                lesion=plane.lesion > 0.5,
                contrast=sequence.contrast,
                agent=sequence.agent,
                spacing=spacing,
                seed=seed,
                position=position,
            )
        )
    return heads


def simulate_many(seeds: Sequence[int], *, size: int = 256, contrast: str | None = None, workers: int = 1) -> Iterator[Head]:
    """`simulate` of every seed, in order; the number of worker processes changes the speed, never the heads."""
    one = partial(simulate, size=size, contrast=contrast)
    if workers <= 1 or len(seeds) < 2:
        yield from map(one, seeds)
        return
    atlas()  # loaded once here, shared by the forked workers
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(one, seeds, chunksize=8)
