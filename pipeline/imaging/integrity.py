"""Is a volume the whole head that models know? Skull stripped, face removed, cropped, metal, a frame, and slices below the teeth.

Each measure is taken in millimetres from the vertex downwards, so it needs a volume whose place is known. Bounds lie between what was
measured on whole heads, simulated ones and a real 3T MPRAGE, and on the same heads stripped, defaced and cropped. Bone under scalp fills
15 to 50 % of the shell of the former (4 % in one with a thin skull full of marrow), and at most 3.5 % where the skull was removed (0 % of
the MNI152 brain). The front ends up to 14 mm behind the forehead where there is a face, and 60 mm and more where it was cut off.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import Modality
from pipeline.formats.slices import Slice
from pipeline.imaging.outline import Outline

SIZES = (40.0, 350.0)  # mm across the widest slice of a head, from a newborn's few to a large one with its rest
LEAST = 8  # slices with a head; fewer tell nothing of a volume
SAMPLE = 16  # slices that are looked at
UPPER = 85.0  # mm below the vertex: there an axial slice meets neither nose nor face
REACH = 1.1  # times the head's length: from the vertex to the teeth, the lowest that simulated heads show
LENGTHS = (150.0, 210.0)  # mm; a head's length is taken for at least and at most that
SHELL = 18.0  # mm below the surface in which the skull lies
DARK = (0.06, 0.12, 0.2)  # of the brain's brightness: bone is darker than one of these, and scalp brighter, whatever the sequence
LEAST_SKULL = 0.05  # share of the shell that dark bone between scalp and brain makes up
CLEARED = 0.98  # share of one and the same number outside the head: it was written there, scanners leave noise
FACE = (120.0, 180.0)  # mm below the vertex: from the eyes to the mouth
RETREAT = 22.0  # mm that the front at FACE lies behind the forehead where the face is missing
OPEN_TOP = 0.35  # of the largest slice's area: a topmost slice this large is not near the vertex
CUT = 0.3  # of the head's side lying on the picture's edge, and of the slices in which it does
METAL = 2500.0  # HU and more, above the teeth
LEAST_METAL = 0.05  # ml
APART = 10.0  # mm outside of the head's outline, beyond which lies what belongs to no head
POST = 1500.0  # HU of metal and more; head rests and pads reach 800
LEAST_POST = 10.0  # square millimetres of it in a slice
MARKER = 0.3  # of the brain's brightness and more; ghosts and noise outside of the head reach half of it
MARKER_AREAS = (5.0, 400.0)  # square millimetres
LEAST_MARKERS = 4  # in a slice; localizers of frames have six or nine
OFTEN = 0.5  # of the slices show a frame, since it is upright


class Fault(StrEnum):
    """What makes a volume another than a whole head."""

    SKULL_STRIPPED = "skull-stripped"
    DEFACED = "defaced"
    CROPPED = "cropped"
    METAL = "metal"
    FRAME = "frame"


SENTENCES = {
    Fault.SKULL_STRIPPED: "the skull seems to have been removed (skull-stripped); models know whole heads, and make up a skull",
    Fault.DEFACED: "the face seems to have been removed (defaced); the result has no true face",
    Fault.CROPPED: "part of the head lies outside of the volume (cropped); at its edges the result is less certain",
    Fault.METAL: "metal in the head (electrodes, clips or plates); models hardly know it, and around it the result is wrong",
    Fault.FRAME: "a frame around the head (metal in CT, markers in MR), which is left out; pins and metal near it disturb the result",
}


@dataclass(frozen=True)
class Findings:
    """`faults` of a volume, and the numbers of its slices that lie `below` the teeth, where models were taught nothing."""

    faults: list[Fault] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Plane:
    """A slice with a head: `depth` in mm below the vertex, bounds of the outline in mm."""

    number: int
    slice_: Slice
    outline: Outline
    depth: float

    @property
    def pixels(self) -> NDArray[np.float32]:
        return self.slice_.pixels

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels inside the outline."""
        return self.outline.mask(self.pixels.shape, self.slice_.scale)

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """The head and what lies within APART of it."""
        return self.outline.grown(APART).mask(self.pixels.shape, self.slice_.scale)

    @cached_property
    def tissue(self) -> np.floating:
        """Brightness of the brain."""
        return np.percentile(self.pixels[self.mask], 70)

    @property
    def front(self) -> float:
        return self.outline.bounds[0]

    @property
    def length(self) -> float:
        top, bottom, _, _ = self.outline.bounds
        return bottom - top

    @property
    def area(self) -> float:
        """Square millimetres, by the shoelace formula."""
        (y, x), (next_y, next_x) = self.outline.points.T, np.roll(self.outline.points, -1, axis=0).T
        return float(abs((x * next_y - next_x * y).sum()) / 2)


def examine(slices: Sequence[Slice], outlines: Mapping[int, Outline], modality: str) -> Findings:
    """What is to be said of a volume's `slices`, from foot to head, with the head's `outlines` by number. Nothing for single pictures."""
    if len(outlines) < LEAST or any(slice_.position is None or slice_.spacing is None for slice_ in slices):
        return Findings()
    places = {number: float(slices[number].position or 0.0) for number in outlines}
    vertex = max(places.values())
    planes = [_Plane(number, slices[number], outline, vertex - places[number]) for number, outline in sorted(outlines.items())]
    upper = [plane for plane in planes if plane.depth <= UPPER]
    upper = upper[:: max(1, len(upper) // SAMPLE)]  # neighbours tell the same
    open_top = _is_open(planes, len(slices))
    faults = []
    if modality == Modality.MR:
        if empty_share(upper) > CLEARED and skull_share(upper) < LEAST_SKULL:
            faults.append(Fault.SKULL_STRIPPED)
        elif not open_top and (retreat := face_retreat(planes)) is not None and retreat > RETREAT:
            faults.append(Fault.DEFACED)
    elif metal_volume(upper) > LEAST_METAL:
        faults.append(Fault.METAL)
    if _share(upper, _shows_frame) > OFTEN:
        faults.append(Fault.FRAME)
    if open_top or _share(upper, _is_cut) > CUT:
        faults.append(Fault.CROPPED)
    reach = REACH * float(np.clip(max((plane.length for plane in upper), default=0.0), *LENGTHS))
    below = [number for number, slice_ in enumerate(slices) if not open_top and vertex - float(slice_.position or 0.0) > reach]
    return Findings(faults, below)


def _share(planes: Sequence[_Plane], holds: Callable[[_Plane], bool]) -> float:
    """Share of `planes` of which it `holds`."""
    return float(np.mean([holds(plane) for plane in planes])) if planes else 0.0


def doubt_size(slices: Sequence[Slice], outlines: Mapping[int, Outline]) -> str:
    """Why a head cannot be as large as its volume's spacing makes it; "" where it can be, or where the spacing is unknown."""
    widest = 0.0
    for number, outline in outlines.items():
        if slices[number].spacing is not None:
            top, bottom, left, right = outline.bounds
            widest = max(widest, bottom - top, right - left)
    if not widest or SIZES[0] <= widest <= SIZES[1]:
        return ""
    return f"a head of {widest:.3g} mm by the spacing of its file, expected {SIZES[0]:g} to {SIZES[1]:g}; correct the spacing"


def skull_share(planes: Sequence[_Plane]) -> float:
    """Share of the SHELL below the surface that is dark and enclosed by something bright: bone under scalp. Median over `planes`."""
    shares = [max(_enclosed(plane, dark) for dark in DARK) for plane in planes if 20 <= plane.depth <= UPPER]
    return float(np.median(shares)) if shares else 1.0


def empty_share(planes: Sequence[_Plane]) -> float:
    """Share of the pixels outside the head's outline that have one and the same lowest number. Median over `planes`."""
    shares = []
    for plane in planes:
        outside = plane.pixels[~plane.mask]
        if outside.size:
            shares.append(float((outside == outside.min()).mean()))
    return float(np.median(shares)) if shares else 0.0


def _enclosed(plane: _Plane, dark: float) -> float:
    """Share of the SHELL in one slice that is darker than `dark` (of the brain's brightness) and enclosed by brighter matter; 0 to 1."""
    pixels, mask = plane.pixels, plane.mask
    if not mask.any():
        return 1.0
    background = float(np.median(pixels[~mask])) if (~mask).any() else float(pixels.min())
    matter = (pixels - background) > dark * (float(plane.tissue) - background)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(matter & mask, 2), iterations=1))[2:-2, 2:-2]
    shell = filled & (ndimage.distance_transform_edt(filled, sampling=plane.slice_.scale) <= SHELL)
    return float((shell & ~matter).sum() / shell.sum()) if shell.any() else 0.0


def face_retreat(planes: Sequence[_Plane]) -> float | None:
    """Millimetres by which the front of the head at the level of the FACE lies behind the forehead; None where neither is in the volume."""
    forehead = [plane.front for plane in planes if 45 <= plane.depth <= UPPER]
    face = [plane.front for plane in planes if FACE[0] <= plane.depth <= FACE[1]]
    return float(np.median(face) - min(forehead)) if len(face) > 1 and forehead else None


def _is_open(planes: Sequence[_Plane], count: int) -> bool:
    """Whether the volume ends before the head does, at its top."""
    top = planes[-1]
    return top.number >= count - 2 and top.area > OPEN_TOP * max(plane.area for plane in planes)


def _is_cut(plane: _Plane) -> bool:
    """Whether much of the head lies on an edge of the picture."""
    pixels, mask = plane.pixels, plane.mask
    bright = mask & (pixels > pixels.min() + 0.2 * (plane.tissue - pixels.min())) if mask.any() else mask
    edges = [(bright[row], mask.any(axis=0)) for row in (0, -1)] + [(bright[:, column], mask.any(axis=1)) for column in (0, -1)]
    return any(edge.sum() > CUT * across.sum() for edge, across in edges if across.any())


def metal_volume(planes: Sequence[_Plane]) -> float:
    """Millilitres of METAL in the heads in `planes` of a CT in Hounsfield units; 0 of a picture."""
    heights = sorted(plane.depth for plane in planes)
    step = float(np.median(np.diff(heights))) if len(heights) > 1 else 0.0
    measured = [plane for plane in planes if plane.slice_.unit == "hu"]
    voxels: NDArray[np.int64] = np.array([((plane.pixels >= METAL) & plane.near).sum() for plane in measured])
    area = float(np.prod(planes[0].slice_.scale)) if planes else 0.0
    return float(voxels.sum() * area * step / 1000)


def _shows_frame(plane: _Plane) -> bool:
    """Whether a stereotactic frame is seen outside of the head: metal in CT, several markers of a localizer in MR."""
    pixels, away, area = plane.pixels, ~plane.near, float(np.prod(plane.slice_.scale))
    if plane.slice_.unit == "hu":
        return bool(((pixels >= POST) & away).sum() * area >= LEAST_POST)
    if not plane.mask.any():
        return False
    dark = float(pixels.min())
    pieces, _ = ndimage.label(away & (pixels - dark > MARKER * (plane.tissue - dark)))
    areas = np.bincount(pieces.ravel())[1:] * area
    return int(((areas >= MARKER_AREAS[0]) & (areas <= MARKER_AREAS[1])).sum()) >= LEAST_MARKERS
