"""The square around a head: from its outline, cut out of a slice, and put back where it came from. Both modalities are framed alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.imaging.outline import SQUARE, Outline, Picture, Scale

CT_SCALP = 1.02  # the head with its scalp is this much larger than what a brain window shows (median of registered pairs)
MOST_LEAN = 40.0  # degrees; a head that seems to lean more lies on its side or is too odd to tell
ROUND = 1.08  # of long to short axis, below which a head is too round to tell how it leans
LENGTH_TO_WIDTH = {"top": 1.34, "bottom": 1.25}  # of a whole head in a slice, by the end that is missing


@dataclass(frozen=True)
class Box:
    """A square in a picture, in millimetres where the slice knows its spacing, else in pixels.

    `top` and `left` may be negative and the square may reach beyond the picture.

    `rotation` in degrees is the counter-clockwise turn of the picture about the square's centre that brings the head upright.
    """

    top: float
    left: float
    side: float
    rotation: float = 0.0

    def points_inside(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """Points (N, 2) of the picture as points of the square cut to (size, size) pixels."""
        turn = np.deg2rad(self.rotation)
        away = points - (self.top + self.side / 2, self.left + self.side / 2)
        turned = away @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return turned * (size / self.side) + size / 2

    def points_outside(self, points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        """The inverse of `points_inside`."""
        turn = np.deg2rad(self.rotation)
        turned = (points - size / 2) * (self.side / size)
        away = turned @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        return away + np.array([self.top + self.side / 2, self.left + self.side / 2])


def enclose(outline: Outline, modality: str, margin: float = 0.0, upright: bool = False) -> Box:
    """The square around a head's outline: around the whole head, even where the picture's field of view cut it.

    `upright`: the square leans as the head does, by at most MOST_LEAN degrees.
    """
    rotation = _lean(outline) if upright else 0.0
    middle = outline.points.mean(axis=0)
    frame = Box(middle[0] - 0.5, middle[1] - 0.5, 1.0, rotation)
    straight = Outline(frame.points_inside(outline.points, 1))
    top, bottom, left, right = straight.bounds
    for end in straight.cut_ends() if modality == "ct" else []:  # an MR that looks cut is mostly noise around a whole head
        missing = max(0.0, LENGTH_TO_WIDTH[end] * (right - left) - (bottom - top))
        top, bottom = (top - missing, bottom) if end == "top" else (top, bottom + missing)
    side = max(bottom - top, right - left) * (CT_SCALP if modality == "ct" else 1) * (1 + 2 * margin)
    centre = frame.points_outside(np.array([[(top + bottom) / 2, (left + right) / 2]]), 1)[0]
    return Box(float(centre[0] - side / 2), float(centre[1] - side / 2), side, rotation)


def _lean(outline: Outline) -> float:
    """Degrees by which a picture must be turned counter-clockwise to bring the head's long axis upright; 0 for a round or lying head."""
    inside = np.argwhere(outline.mask((np.ceil(outline.points.max(axis=0)) + 1).astype(int)))
    variances, axes = np.linalg.eigh(np.cov((inside - inside.mean(axis=0)).T))
    down, right = axes[:, 1]
    lean = float(-np.rad2deg(np.arctan2(right * np.sign(down), abs(down))))
    return lean if variances[1] > ROUND**2 * variances[0] and abs(lean) <= MOST_LEAN else 0.0


def crop(image: Picture, box: Box, size: int, scale: Scale = SQUARE) -> Picture:
    """The square `box` of `image` (H, W) with pixels of `scale`, as (size, size), anti-aliased.

    What lies beyond the picture is 0. Keeps the range of values.
    """
    low, high = image.min(initial=0), image.max(initial=0)
    if box.rotation and not np.isclose(scale[0], scale[1], rtol=1e-3):  # Pillow turns square pixels only
        image, scale = _with_square_pixels(image, scale)
    down, across = scale
    reach = box.side * (0.71 if box.rotation else 0.5)  # a turned square's corners lie half a diagonal from its centre
    middle_y, middle_x = (box.top + box.side / 2) / down, (box.left + box.side / 2) / across
    half_y, half_x = reach / down, reach / across
    before_y, before_x = max(0, int(np.ceil(half_y - middle_y)) + 1), max(0, int(np.ceil(half_x - middle_x)) + 1)
    after_y = max(0, int(np.ceil(middle_y + half_y - image.shape[0])) + 1)
    after_x = max(0, int(np.ceil(middle_x + half_x - image.shape[1])) + 1)
    padded = Image.fromarray(np.pad(np.asarray(image, np.float32), ((before_y, after_y), (before_x, after_x))))
    if box.rotation:
        padded = padded.rotate(box.rotation, Image.Resampling.BICUBIC, center=(middle_x + before_x, middle_y + before_y))
    top, left = box.top / down + before_y, box.left / across + before_x
    place = (left, top, left + box.side / across, top + box.side / down)
    return np.clip(np.asarray(padded.resize((size, size), Image.Resampling.BICUBIC, box=place), np.float32), low, high)


def paste(patch: Picture, box: Box, shape: tuple[int, int], scale: Scale = SQUARE) -> Picture:
    """The inverse of `crop`: `patch` (size, size) drawn into an empty picture of `shape` (H, W) at `box`, 0 around it."""
    size = patch.shape[0]
    step = size / box.side
    source = np.asarray(patch, np.float32)
    # Where the patch has more pixels than its place: smooth first, as skimage.transform.resize does.
    smoothing = [max(0.0, (step * length - 1) / 2) for length in scale]
    if any(smoothing):
        source = ndimage.gaussian_filter(source, smoothing)
    turn = np.deg2rad(box.rotation)
    cos, sin = np.cos(turn) * step, np.sin(turn) * step
    middle_y, middle_x = box.top + box.side / 2, box.left + box.side / 2
    down, across = scale
    # Pillow wants the map from a pixel of the result (x, y) to one of the source; rows run downwards, so a counter-clockwise turn is this:
    to_source = (
        cos * across, sin * down, size / 2 - cos * middle_x - sin * middle_y,
        -sin * across, cos * down, size / 2 + sin * middle_x - cos * middle_y,
    )  # fmt: skip
    drawn = Image.fromarray(source).transform((shape[1], shape[0]), Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC)
    return np.clip(np.asarray(drawn, np.float32), min(0.0, float(patch.min())), max(0.0, float(patch.max())))


def _with_square_pixels(image: Picture, scale: Scale) -> tuple[Picture, Scale]:
    """`image` resampled so that its pixels are squares of the shorter side, and their scale."""
    height, width = (max(1, round(count * length / min(scale))) for count, length in zip(image.shape, scale, strict=True))
    square = Image.fromarray(np.asarray(image, np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(square, np.float32), (image.shape[0] * scale[0] / height, image.shape[1] * scale[1] / width)
