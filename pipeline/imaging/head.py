"""Find the head in a slice, cut a square around it, and put a square back where it came from.

Heads are framed the same way in both modalities. A CT in a brain window ends at the skull (fat is black there) and shows the head rest,
fingers and clamps beside it; an MR shows bright scalp around dark bone. So each modality finds its own outline, and the convex hull of
it is taken as the head.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import convex_hull_image

Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORK_SIDE = 192  # pixels of the longer side that the search works on: half a percent of the side is precise enough
CT_TISSUE = 0.1  # of a brain window: above cerebrospinal fluid's edge with air, below skin
CT_OPENING = 0.02  # of the side: thinner things (head rest, tubes, skin folds) are cut off
MR_SCALP = 0.04  # of bright tissue above background: fat-suppressed scalp is this dark
MR_OPENING = 0.012
MIN_SHARE = 0.02  # a head covers at least this share of its picture
FACE_REACH = 0.2  # of the head's size: bone of the face lies at most this far in front of the braincase's outline


@dataclass(frozen=True)
class Box:
    """A square in a picture, in pixels; `top` and `left` may be negative and the square may reach beyond the picture.

    `rotation` in degrees is the counter-clockwise turn of the picture about the square's centre that brings the head upright.
    """

    top: float
    left: float
    side: float
    rotation: float = 0.0


def head_mask(image01: Picture, modality: str) -> Mask:
    """The head's convex outline in a picture (H, W) of 0..1; all False where there is none. `modality` is ct or mr."""
    height, width = image01.shape
    scale = min(1.0, WORK_SIDE / max(height, width))
    small_shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = _resize(image01, small_shape) if scale < 1 else image01
    found = _ct_outline(small) if modality == "ct" else _mr_outline(small)
    if found.sum() < MIN_SHARE * found.size:
        return np.zeros(image01.shape, bool)
    hull = convex_hull_image(found)
    return _resize(hull.astype(np.float32), image01.shape) > 0.5 if scale < 1 else hull


def find_head(image01: Picture, modality: str, margin: float = 0.0) -> Box | None:
    """The upright square around the head in a picture (H, W) of 0..1, wider by `margin` (share of the longer side) on each side.

    None without a head.
    """
    return box_of(head_mask(image01, modality), margin)


def box_of(mask: Mask, margin: float = 0.0) -> Box | None:
    """The upright square centred on a mask's bounding rectangle; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(bottom - top, right - left) * (1 + 2 * margin)
    return Box((top + bottom - side) / 2, (left + right - side) / 2, side)


def crop(image: Picture, box: Box, size: int) -> Picture:
    """The square `box` of `image` (H, W) as (size, size), anti-aliased; what lies beyond the picture is 0. Keeps the range of values."""
    height, width = image.shape
    reach = box.side * (0.71 if box.rotation else 0.5)  # a turned square's corners lie half a diagonal from its centre
    middle_y, middle_x = box.top + box.side / 2, box.left + box.side / 2
    before_y, before_x = max(0, int(np.ceil(reach - middle_y)) + 1), max(0, int(np.ceil(reach - middle_x)) + 1)
    after_y = max(0, int(np.ceil(middle_y + reach - height)) + 1)
    after_x = max(0, int(np.ceil(middle_x + reach - width)) + 1)
    padded = Image.fromarray(np.pad(np.asarray(image, np.float32), ((before_y, after_y), (before_x, after_x))))
    top, left = box.top + before_y, box.left + before_x
    if box.rotation:
        padded = padded.rotate(box.rotation, Image.Resampling.BICUBIC, center=(middle_x + before_x, middle_y + before_y))
    cut = padded.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + box.side, top + box.side))
    return np.clip(np.asarray(cut, np.float32), image.min(initial=0), image.max(initial=0))


def paste(patch: Picture, box: Box, shape: tuple[int, int]) -> Picture:
    """The inverse of `crop`: `patch` (size, size) drawn into an empty picture of `shape` (H, W) at `box`, 0 around it."""
    size = patch.shape[0]
    step = size / box.side
    source = np.asarray(patch, np.float32)
    if step > 1:  # the patch has more pixels than its place: smooth first, as skimage.transform.resize does
        source = ndimage.gaussian_filter(source, (step - 1) / 2)
    turn = np.deg2rad(box.rotation)
    cos, sin = np.cos(turn) * step, np.sin(turn) * step
    middle_y, middle_x = box.top + box.side / 2, box.left + box.side / 2
    # Pillow wants the map from a pixel of the result (x, y) to one of the source; rows run downwards, so a counter-clockwise turn is this:
    to_source = (cos, sin, size / 2 - cos * middle_x - sin * middle_y, -sin, cos, size / 2 + sin * middle_x - cos * middle_y)
    drawn = Image.fromarray(source).transform((shape[1], shape[0]), Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(drawn, np.float32), min(0.0, float(patch.min())), max(0.0, float(patch.max())))


def _ct_outline(small: Picture) -> Mask:
    """Braincase as the largest thick piece, plus the pieces of the face before it; not what lies beside or behind (head rest, fingers)."""
    side = max(small.shape)
    tissue = ndimage.binary_fill_holes(small > CT_TISSUE)
    core = _largest(_open(tissue, CT_OPENING * side))
    if not core.any():
        return core
    rows, columns = np.flatnonzero(core.any(axis=1)), np.flatnonzero(core.any(axis=0))
    middle_row, middle_column, half_width = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0]) / 2
    away = ndimage.distance_transform_edt(~convex_hull_image(core))
    pieces, _ = ndimage.label(tissue & ~core, np.ones((3, 3)))
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[place] == number
        if piece.sum() < 0.0004 * small.size or away[place][piece].max() > FACE_REACH * np.sqrt(core.sum()):
            continue
        row, column = (place[axis].start + np.nonzero(piece)[axis].mean() for axis in (0, 1))
        if row < middle_row and abs(column - middle_column) < 0.6 * half_width:
            core[place] |= piece
    return core


def _mr_outline(small: Picture) -> Mask:
    """Everything above the background's noise, filled, as its largest thick piece."""
    side = max(small.shape)
    smooth = ndimage.gaussian_filter(small, side / 256 * 0.7)
    border = np.concatenate([smooth[:3].ravel(), smooth[-3:].ravel(), smooth[:, :3].ravel(), smooth[:, -3:].ravel()])
    background = float(np.median(border))
    spread = 1.48 * float(np.median(np.abs(border - background)))
    bright = smooth[smooth > background + 0.05]
    if bright.size == 0:
        return np.zeros(small.shape, bool)
    rise = max(MR_SCALP * (float(np.percentile(bright, 95)) - background), 4 * spread, 0.015)
    return _largest(_open(ndimage.binary_fill_holes(smooth > background + rise), MR_OPENING * side))


def _open(mask: Mask, radius: float) -> Mask:
    """Morphological opening with a disk of `radius` pixels (not necessarily whole), by two distance transforms."""
    padded = np.pad(mask, 1)
    inner = ndimage.distance_transform_edt(padded) > radius
    if not inner.any():
        return np.zeros_like(mask)
    return (ndimage.distance_transform_edt(~inner) <= radius)[1:-1, 1:-1]


def _largest(mask: Mask) -> Mask:
    """The largest connected piece of a mask."""
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return pieces == sizes.argmax()


def _resize(image: Picture, shape: tuple[int, int]) -> Picture:
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.BILINEAR), np.float32)
