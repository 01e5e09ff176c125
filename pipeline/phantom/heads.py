"""Simulated heads with known truth: one slice, several slices of one subject, or many seeds at once.

Everything is a pure function of the arguments: the same seed gives the same head in any process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import Contrast
from pipeline.phantom.anatomy import BOTTOM, MIDDLE, TOP, Orientation, Plane, Subject, cut, cut_around, draw_subject
from pipeline.phantom.frames import FIELD_OF_VIEW
from pipeline.phantom.lesions import Lesion
from pipeline.phantom.sequences import draw_sequence
from pipeline.phantom.shapes import FAR
from pipeline.phantom.shares import FINE, Shares, shrink_for, store
from pipeline.phantom.signal import acquire_ct, acquire_mr, draw_signals, draw_units, label_tissues

Floats = NDArray[np.float32]
POSITIONS = (-0.2, 1.1)  # heights of the slices that teach: from the upper teeth to the cap of the skull, above the brain
THICKNESS = (1.0, 8.0)  # mm
THIN = (1.0, 2.5)  # mm of coronal and sagittal slices, which are cut from fine volumes only
REACH: dict[Orientation, tuple[float, float]] = {"coronal": (-108.0, 74.0), "sagittal": (-74.0, 74.0)}  # mm to the front, to the right
ENDS = (-112.0, -45.0)  # mm above the middle of the head, where volumes end below
SMALLEST = 1500.0  # mm²; slices that show less of the head are drawn anew


@dataclass(frozen=True)
class Head:
    """One slice of one simulated head; CT and MR lie on the same pixel grid.

    ct (size, size) float32 Hounsfield units; mr (size, size) float32 0..1; mask (size, size) bool, the head with its scalp;
    labels (size, size) uint8 of `Tissue`; lesion (size, size) bool; contrast t1, t2, flair or pd; agent: contrast agent given;
    spacing in mm a pixel; seed and position (0 skull base .. 1 top of the brain) that made it.
    """

    ct: Floats
    mr: Floats
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    contrast: Contrast
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
    """Slices of one subject at `positions` (0 skull base .. 1 top of the brain), all by the same scanner and MR sequence.

    Raises ValueError on a contrast other than t1, t2, flair, pd.
    """
    subject = draw_subject(seed)
    return [_head(subject, position, size, contrast) for position in positions]


def draw_head(seed: int, position: float, *, size: int = 256, contrast: str | None = None, lesion: Lesion | None) -> Head:
    """The subject of `seed` with `lesion`, or healthy for None: the same anatomy otherwise, for planted lesions."""
    return _head(replace(draw_subject(seed), lesion=lesion), position, size, contrast)


def _head(subject: Subject, position: float, size: int, contrast: str | None) -> Head:
    scanner = np.random.default_rng([subject.seed, 5])
    sequence = draw_sequence(scanner, contrast)
    scanner = np.random.default_rng([subject.seed, 9])
    units, signals = draw_units(scanner), draw_signals(sequence, scanner)
    plane = cut(subject, position, size, FIELD_OF_VIEW / size, thickness=float(scanner.uniform(*THICKNESS)))
    mark = round((position + 10) * 1e6)  # heights below the skull base are negative
    return Head(
        ct=acquire_ct(plane, units, np.random.default_rng([subject.seed, 6, mark])),
        mr=acquire_mr(plane, signals, np.random.default_rng([subject.seed, 7, mark])),
        mask=plane.frame.to_picture(plane.head, FAR) < 0,
        labels=plane.frame.to_label_picture(label_tissues(plane.layers)),
        lesion=plane.frame.to_picture(plane.lesion, 0.0) > 0.5,
        contrast=sequence.contrast,
        agent=sequence.agent,
        spacing=FIELD_OF_VIEW / size,
        seed=subject.seed,
        position=position,
    )


def simulate_shares(seed: int, pixels: int, across: float = 0.0) -> tuple[Shares, dict[str, float | str]]:
    """Tissue shares of a slice of the subject of `seed`, as networks that see `pixels` a side are taught by, and facts about it.

    A share `across` of seeds gives coronal and sagittal slices. The facts: `orientation`, `thickness` in mm, and where the head lies: its
    centre `down` and `right` of the grid's middle, its longer `side`, mm.
    """
    subject, g = draw_subject(seed, lesion_chance=0.5), np.random.default_rng([seed, 10])
    orientation = _draw_orientation(seed, across)
    while True:
        plane, thickness = _draw_plane(subject, orientation, g)
        if (plane.head < 0).sum() * plane.frame.grid_spacing**2 >= SMALLEST:
            break
    shares = store(plane, shrink_for(pixels))
    rows, columns = np.nonzero(shares.depth)
    (top, bottom), (left, right) = ((float(at.min()), float(at.max() + 1)) for at in (rows, columns))
    height, width = shares.depth.shape
    facts = {
        "orientation": orientation,
        "thickness": thickness,
        "down": ((top + bottom) / 2 - height / 2) * shares.spacing,
        "right": ((left + right) / 2 - width / 2) * shares.spacing,
        "side": max(bottom - top, right - left) * shares.spacing,
    }
    return shares, facts


def _draw_orientation(seed: int, across: float) -> Orientation:
    chosen = float(np.random.default_rng([seed, 11]).random())
    return "axial" if chosen >= across else "coronal" if chosen < across / 2 else "sagittal"


def _draw_plane(subject: Subject, orientation: Orientation, g: np.random.Generator) -> tuple[Plane, float]:
    """A slice through the head, and its thickness in mm. Coronal and sagittal ones end below as volumes do, at the teeth or above."""
    spacing = FIELD_OF_VIEW / FINE
    if orientation == "axial":
        position, thickness = _draw_position(subject, g), float(g.uniform(*THICKNESS))
        return cut(subject, position, FINE, spacing, thickness), thickness
    thickness, axis = float(g.uniform(*THIN)), {"coronal": 1, "sagittal": 0}[orientation]
    centre = np.array([0, MIDDLE, 0], np.float32)
    centre[axis] = g.uniform(*REACH[orientation])
    if subject.lesion is not None and g.random() < 0.5:
        centre[axis] = subject.lesion.centre[axis] + 0.6 * min(subject.lesion.radius, 30) * g.uniform(-1, 1)
    plane = cut_around(subject, centre, FINE, spacing, thickness, orientation)
    down, right = plane.frame.offsets()
    height = -down[:, None] if orientation == "coronal" else right[None]
    return replace(plane, head=np.where(height < g.uniform(*ENDS), np.float32(FAR), plane.head)), thickness


def _draw_position(subject: Subject, g: np.random.Generator) -> float:
    """A height of a slice; through the lesion in most subjects that have one, since few slices at random would show it."""
    lesion = subject.lesion
    if lesion is None or g.random() < 0.3:
        return float(g.uniform(*POSITIONS))
    height = lesion.centre[2] + 0.6 * min(lesion.radius, 30) * g.uniform(-1, 1)
    return float((height - BOTTOM) / (TOP - BOTTOM))
