"""A volume and the CT made of it in three planes, to be looked at.

python benchmarks/views.py MR CT OUT.png            volumes of any format and orientation, or folders of DICOM series
python benchmarks/views.py --simulated SEED OUT.png     a simulated head, translated by the model in the box, beside its true CT
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.box_scores import translate_simulated
from pipeline import paths
from pipeline.domain import Direction, Modality
from pipeline.errors import UserError, user_errors
from pipeline.evaluation.drawing import as_bytes, colour, draw_scale, stack, write_line
from pipeline.formats.table import read_volume
from pipeline.imaging.axial import view_axially
from pipeline.imaging.intensity import stretch, window_bounds
from pipeline.params import Window
from pipeline.phantom import simulate_volume
from pipeline.serving.translator import Translator

Picture = NDArray[np.float32]
Millimetres = tuple[float, float, float]  # between slices, rows and columns
SOFT, BONE, WIDE = Window(level=40, width=400), Window(level=500, width=3000), Window(level=300, width=1500)
FULL_COLOUR = 500  # HU: a difference that is shown in full colour
SPACING = 1.5  # mm of simulated heads
OUTSIDE, MARGIN = -800.0, 5.0  # HU, and mm that are shown around the head
GAP = 8  # pixels between two views


@dataclass(frozen=True)
class Column:
    """A volume (N, H, W), from foot to head, as bytes of grey or (N, H, W, 3) of RGB; `empty`: what lies beyond it."""

    title: str
    voxels: NDArray[np.uint8]
    empty: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, metavar="SEED")
    parser.add_argument("files", type=Path, nargs="+", metavar="[MR CT] OUT.png")
    asked = parser.parse_args()
    if len(asked.files) != (3 if asked.simulated is None else 1):
        parser.error("expected MR CT OUT.png, or --simulated SEED OUT.png")
    with user_errors():
        if asked.simulated is None:
            heights, columns, sizes = (0.35, 0.45, 0.55, 0.65, 0.75, 0.88), *compare_files(*asked.files[:2])
        else:
            heights, columns, sizes = (0.2, 0.4, 0.6, 0.85), *compare_simulated(asked.simulated)
        Image.fromarray(draw(columns, sizes, heights)).save(asked.files[-1], optimize=True)


def compare_files(mr_file: Path, ct_file: Path) -> tuple[list[Column], Millimetres]:
    """The columns of a volume and its translation, and the size of their voxels. Raises UserError where they do not fit together."""
    mr, sizes = read(mr_file, Modality.MR)
    ct, same = read(ct_file, Modality.CT)
    if mr.shape != ct.shape or not np.allclose(sizes, same, atol=1e-3):
        raise UserError(f"{ct_file}: {ct.shape} voxels, those of {mr_file} are {mr.shape}; expected a translation of it")
    columns = [grey_mr(mr), grey_ct("synthetic CT", ct, SOFT), grey_ct("synthetic CT", ct, BONE)]
    return crop(columns, ct > OUTSIDE, sizes), sizes


def compare_simulated(seed: int) -> tuple[list[Column], Millimetres]:
    """The columns of the simulated head `seed`, which the model in the box translates, and the size of its voxels."""
    head = simulate_volume(seed, (SPACING, SPACING, SPACING))
    made = translate_simulated(Translator.from_folder(paths.BOX, Direction.MR_TO_CT), head)
    mr, ct, truth = (np.asarray(voxels, np.float32).transpose(2, 1, 0) for voxels in (head.mr, made, head.ct_truth))
    difference = Column("difference, HU", as_bytes(colour(ct - truth, FULL_COLOUR)), empty=255)
    columns = [grey_mr(mr), grey_ct("synthetic CT", ct, WIDE), grey_ct("true CT", truth, WIDE), difference]
    sizes = (SPACING, SPACING, SPACING)
    return crop(columns, truth > OUTSIDE, sizes), sizes


def crop(columns: list[Column], head: NDArray[np.bool_], sizes: Millimetres) -> list[Column]:
    """The columns without what lies more than MARGIN mm before, behind and beside the head."""
    inside = [slice(None)]
    for axis in (1, 2):
        places = np.flatnonzero(head.any(axis=tuple({0, 1, 2} - {axis})))
        margin = round(MARGIN / sizes[axis])
        inside.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1))
    return [replace(each, voxels=each.voxels[tuple(inside)]) for each in columns]


def grey_mr(mr: Picture) -> Column:
    return Column("MR", as_bytes(stretch(mr, float(mr.min()), float(np.percentile(mr, 99.5)))))


def grey_ct(title: str, ct: Picture, window: Window) -> Column:
    low, high = window_bounds(window)
    return Column(f"{title}, {low:.0f} to {high:.0f} HU", as_bytes(stretch(ct, low, high)))


def read(path: Path, modality: Modality) -> tuple[Picture, Millimetres]:
    """A volume (N, H, W) from foot to head, and the size of its voxels. Raises UserError without a place."""
    slices = view_axially(read_volume(path, modality, "hu" if modality is Modality.CT else "auto")).volume.slices
    places = [slice_.position for slice_ in slices if slice_.position is not None]
    spacing = slices[0].spacing
    if spacing is None or len(places) < 2:
        raise UserError(f"{path}: does not say how large its voxels are; expected a volume in millimetres")
    return np.stack([slice_.pixels for slice_ in slices]), (float(np.median(np.diff(places))), *spacing)


def draw(columns: list[Column], sizes: Millimetres, heights: tuple[float, ...]) -> NDArray[np.uint8]:
    """Axial slices at `heights` (0 lowest, 1 topmost), then a sagittal and a coronal one, each of all columns; two of them in a line.

    A millimetre is a pixel. Under a coloured column stands its scale.
    """
    up, down, across = sizes
    count, height, width = columns[0].voxels.shape[:3]
    views = [[scale(each.voxels[int(share * (count - 1))], down, across) for each in columns] for share in heights]
    views.append([scale(each.voxels[::-1, :, width // 2], up, down) for each in columns])
    views.append([scale(each.voxels[::-1, height // 2], up, across) for each in columns])
    widest = max(picture.shape[1] for view in views for picture in view)
    parts = [beside([write_line([each.title for each in columns], [widest] * len(columns))] * 2)]
    for first, second in zip(views[::2], views[1::2], strict=True):
        tallest = max(picture.shape[0] for picture in first + second)
        halves = [[place(*each, tallest, widest) for each in zip(view, columns, strict=True)] for view in (first, second)]
        parts.append(beside([np.concatenate(half, axis=1) for half in halves]))
    if any(each.empty for each in columns):
        scale_bar = draw_scale(widest, FULL_COLOUR)
        blank = np.full_like(scale_bar, 255)
        parts.append(beside([np.concatenate([scale_bar if each.empty else blank for each in columns], axis=1)] * 2))
    return stack(parts, gap=GAP)


def beside(halves: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Two RGB pictures of one height, white paper between them."""
    return np.concatenate([halves[0], np.full((len(halves[0]), GAP, 3), 255, np.uint8), halves[1]], axis=1)


def place(picture: NDArray[np.uint8], column: Column, height: int, width: int) -> NDArray[np.uint8]:
    """An RGB picture in the middle of a field of its column."""
    over, beside = height - picture.shape[0], width - picture.shape[1]
    sides = ((over // 2, over - over // 2), (beside // 2, beside - beside // 2), (0, 0))
    return np.pad(picture, sides, constant_values=column.empty)


def scale(picture: NDArray[np.uint8], down: float, across: float) -> NDArray[np.uint8]:
    """A picture with pixels of `down` × `across` mm as an RGB one of 1 × 1 mm."""
    size = (max(1, round(picture.shape[1] * across)), max(1, round(picture.shape[0] * down)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).convert("RGB").resize(size, Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()
