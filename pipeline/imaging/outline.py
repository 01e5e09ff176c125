"""The head's outline in a slice, as a convex polygon, found in each modality by what it shows of the head.

A CT in a brain window ends at the skull (fat is black there) and shows the head rest, fingers and clamps beside it; an MR shows bright
scalp around dark bone. The head is the convex hull of either. It is measured on a small copy of the picture.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]  # (N, 2): row, column
Scale = tuple[float, float]  # height and width of a pixel; in millimetres where the file knows them, so that a circle is round
SQUARE: Scale = (1.0, 1.0)  # unknown: pixels are the unit

WORK_SIDE = 192  # pixels of the longer side that the search works on; outlines are good to about half a percent of the side
MIN_SHARE = 0.02  # a head covers at least this share of its picture
CT_TISSUE = 0.1  # of a brain window: above cerebrospinal fluid's edge with air, below skin
CT_OPENING = 0.025  # of the side: thinner things (head rest, tubes, skin folds) are cut off
MR_SCALP = 0.03  # of bright tissue above background: fat-suppressed scalp is this dark
MR_OPENING = 0.012
SURE = 0.2  # of bright tissue above background: surely head
MOST_NOISE = 0.12  # of bright tissue above background: brighter than this is no noise
SCALP = 0.12  # of the head's size: nothing of the head lies farther than this outside of what surely is head
FRAME = 0.05  # of the side: bright lines this near to the picture's edge are a frame, not a head
FACE_REACH = 0.35  # of the head's size: bone of the face lies at most this far in front of the braincase's outline
CUT = 0.56  # of the head's width: a straighter top or bottom than this is where the field of view ended


@dataclass(frozen=True)
class Outline:
    """A convex polygon around a head: `points` (N, 2), its corners in order, as distances down and right of the picture's upper left
    corner, in millimetres where the slice knows its spacing, else in pixels."""

    points: Points = field(repr=False)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Top, bottom, left, right."""
        (top, left), (bottom, right) = self.points.min(axis=0), self.points.max(axis=0)
        return float(top), float(bottom), float(left), float(right)

    def mask(self, shape: tuple[int, ...], scale: Scale = SQUARE) -> Mask:
        """The inside of the outline as a mask of `shape` (H, W), whose pixels are of `scale`."""
        drawn = Image.new("1", (shape[1], shape[0]))
        # Pixel (0, 0) is centred at 0.5, 0.5 here and at 0, 0 for pillow.
        ImageDraw.Draw(drawn).polygon([(column - 0.5, row - 0.5) for row, column in (self.points / scale).tolist()], fill=1)
        return np.array(drawn, bool)

    def grown(self, by: float) -> "Outline":
        """The outline with a border of `by` around it, in the unit of its points."""
        angles = np.arange(0, 2 * np.pi, np.pi / 8)
        circle = by * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        return hull((self.points[:, None] + circle[None]).reshape(-1, 2))

    def cut_ends(self) -> list[str]:
        """Which ends, "top" or "bottom", are so straight that the field of view must have ended there."""
        around = np.concatenate([self.points, self.points[:1]])
        steps = np.linspace(0, len(self.points), 16 * len(self.points), endpoint=False)
        edge = np.stack([np.interp(steps, np.arange(len(around)), around[:, axis]) for axis in (0, 1)], axis=1)
        top, bottom, left, right = self.bounds
        slopes = np.tan(np.deg2rad(np.arange(-20, 21)))
        ends = []
        for end, sign in (("top", 1), ("bottom", -1)):
            depth = sign * edge[:, 0] - slopes[:, None] * edge[:, 1]
            near = depth <= depth.min(axis=1, keepdims=True) + 0.02 * (bottom - top)
            straight = np.where(near, edge[:, 1], -np.inf).max(axis=1) - np.where(near, edge[:, 1], np.inf).min(axis=1)
            if straight.max() > CUT * (right - left):
                ends.append(end)
        return ends


def hull(points: Points) -> Outline:
    """The convex hull of points (N, 2)."""
    return Outline(points[ConvexHull(points).vertices])


def find_outline(image01: Picture, modality: str, scale: Scale = SQUARE) -> Outline | None:
    """The outline of the head in a picture (H, W) of 0..1 with pixels of `scale`; None where there is no head. `modality` is ct or mr."""
    height, width = image01.shape[0] * scale[0], image01.shape[1] * scale[1]
    shrink = min(1 / min(scale), WORK_SIDE / max(height, width))
    shape = (max(1, round(height * shrink)), max(1, round(width * shrink)))
    small = np.asarray(image01, np.float32)
    if shape != small.shape:
        small = np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float32)
    mask = _in_ct(small) if modality == "ct" else _in_mr(small)
    if mask.sum() < max(MIN_SHARE * mask.size, 9):
        return None
    return hull(_corners(mask) * (height / shape[0], width / shape[1]))


def _in_ct(small: Picture) -> Mask:
    """Braincase as the largest thick piece, plus the pieces of the face before it; not what lies beside or behind (head rest, fingers)."""
    tissue = ndimage.binary_fill_holes(small > CT_TISSUE)
    core = _largest(_open(tissue, CT_OPENING * max(small.shape)))
    if not core.any():
        return core
    rows, columns = np.flatnonzero(core.any(axis=1)), np.flatnonzero(core.any(axis=0))
    middle_row, middle_column, half_width = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    sides = ConvexHull(_corners(core)).equations
    reach = FACE_REACH * np.sqrt(core.sum())
    pieces, _ = ndimage.label(tissue & ~core, np.ones((3, 3)))
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        piece = np.argwhere(pieces[place] == number) + np.array([place[0].start, place[1].start])
        row, column = piece.mean(axis=0)
        in_front = row < middle_row and abs(column - middle_column) < 0.6 * half_width
        if in_front and len(piece) > 0.0004 * small.size and (piece @ sides[:, :2].T + sides[:, 2]).max() < reach:
            core[piece[:, 0], piece[:, 1]] = True
    return core


def _in_mr(small: Picture) -> Mask:
    """Everything above the background's noise, filled, as its largest thick piece."""
    mask = np.zeros(small.shape, bool)
    side = max(small.shape)
    inner = _within_frame(small)
    if min(small[inner].shape) < 16:
        return mask
    smooth = ndimage.gaussian_filter(small[inner], side / 256 * 0.7)
    background = _background(smooth)
    bright = smooth[smooth > background + 0.05]
    if bright.size == 0:
        return mask
    tissue = float(np.percentile(bright, 95)) - background
    rise = max(MR_SCALP * tissue, 0.012, _noise(smooth, background, tissue))
    mask[inner] = _largest(_open(ndimage.binary_fill_holes(smooth > background + rise), MR_OPENING * side))
    return mask


def _background(smooth: Picture) -> float:
    """Level of the darker two corners: the others may hold text or white paper."""
    tall, wide = (max(2, round(0.08 * length)) for length in smooth.shape)
    corners = [smooth[rows, columns] for rows in (slice(tall), slice(-tall, None)) for columns in (slice(wide), slice(-wide, None))]
    return sorted(float(np.median(corner)) for corner in corners)[1]


def _noise(smooth: Picture, background: float, tissue: float) -> float:
    """How far above the background its noise and ghosts reach, seen well outside of what is surely head.

    The corners do not tell: scanners cut the picture's corners off after noise was there.
    """
    pieces, _ = ndimage.label(ndimage.binary_fill_holes(smooth > background + SURE * tissue))
    sizes = np.bincount(pieces.ravel())[1:]
    sure = np.isin(pieces, 1 + np.flatnonzero(sizes > 0.01 * smooth.size))  # not text and rulers
    if not sure.any():
        return 0.0
    around = hull(_corners(sure)).grown(SCALP * float(np.sqrt(sure.sum()))).mask(smooth.shape)
    outside = smooth[~around] - background
    return min(1.2 * float(np.percentile(outside, 96)), MOST_NOISE * tissue) if outside.size > 0.02 * smooth.size else 0.0


def _within_frame(small: Picture) -> tuple[slice, slice]:
    """The part of a picture inside bright bars along its edges: behind the last line that is mostly bright, close to the edge."""
    bright = small > 0.25 * small.max()
    parts = []
    for lines in (bright.mean(axis=1), bright.mean(axis=0)):
        reach = max(1, round(FRAME * len(lines)))
        first, last = np.flatnonzero(lines[:reach] > 0.75), np.flatnonzero(lines[::-1][:reach] > 0.75)
        # One line more than the bright ones: shrinking the picture spread them.
        parts.append(slice(first[-1] + 2 if first.size else 0, len(lines) - (last[-1] + 2 if last.size else 0)))
    return parts[0], parts[1]


def _open(mask: Mask, radius: float) -> Mask:
    """Morphological opening with a disk of `radius` pixels (not necessarily whole), by two distance transforms.

    What is opened lies inside the mask, so distances are worked out in its bounding box only.
    """
    opened = np.zeros_like(mask)
    places = ndimage.find_objects(mask.view(np.uint8), max_label=1)
    if not places or places[0] is None:
        return opened
    inner = ndimage.distance_transform_edt(np.pad(mask[places[0]], 1)) > radius
    if inner.any():
        opened[places[0]] = (ndimage.distance_transform_edt(~inner) <= radius)[1:-1, 1:-1]
    return opened


def _largest(mask: Mask) -> Mask:
    """The largest connected piece of a mask."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _corners(mask: Mask) -> NDArray[Any]:
    """Corners of the first and last pixel of each row of a mask: all that its convex hull depends on."""
    rows = np.flatnonzero(mask.any(axis=1))
    first, last = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    return np.array([np.concatenate([rows, rows, rows + 1, rows + 1]), np.concatenate([first, last, first, last])], float).T
