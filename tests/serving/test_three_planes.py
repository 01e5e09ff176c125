"""Fine volumes are translated in three planes, and each voxel is the median of what they say."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.formats.synthetic import Label
from pipeline.formats.volume import Volume
from pipeline.imaging.axial import cut_across, fill_between
from pipeline.params import Preprocess
from pipeline.serving.translator import Translator

SHAPE = (76, 82, 70)


@dataclass
class Echo:
    """A generator whose answer is its input, but for every `wrong`th plane, which it makes white."""

    wrong: int = 0
    seen: int = field(default=0)

    def translate(self, images: NDArray[np.float32], contrast: str | None) -> NDArray[np.float32]:
        answers = images.copy()
        for number in range(len(images)):
            self.seen += 1
            if self.wrong and self.seen % self.wrong == 0:
                answers[number] = 1.0
        return answers


def make_ball(step: float, axes: tuple[int, int, int] = (0, 1, 2)) -> Volume:
    """An MR of a textured ellipsoid, voxels of `step` mm, stored with its axes in another order."""
    places = np.meshgrid(*[(np.arange(count) - count / 2) * 2.5 for count in SHAPE], indexing="ij")
    radius = sum((place / half) ** 2 for place, half in zip(places, (70.0, 85.0, 75.0), strict=True))
    texture = 0.6 + 0.2 * np.sin(places[0] / 9) * np.sin(places[1] / 11) * np.sin(places[2] / 10)
    voxels = np.where(radius < 1, 1000 * texture, 0).astype(np.float32)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -np.array(SHAPE) * step / 2
    return Volume(voxels.transpose(axes), affine[:, [*axes, 3]], "grey", "NIfTI", "ball", "mr")


def make_translator(generator: Echo, across: float = 0.5) -> Translator:
    preprocess = Preprocess(pixels=128, teacher_pairs=8, teacher_across=across)
    return Translator(generator, "mr_to_ct", preprocess, conditional=False, label=Label("mr-to-ct"))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_planes_across_hold_the_same_voxels(axes: tuple[int, int, int]) -> None:
    volume = make_ball(2.5, axes)
    planes = cut_across(volume, 4, 64)
    whole = np.stack([slice_.pixels for slice_ in volume.slices])  # from foot to head, rows to the back, columns to the left
    kept = whole.copy()
    kept[[*range(4), *range(65, len(kept))]] = whole.min()
    coronal, sagittal = (np.stack([slice_.pixels for slice_ in plane.slices]) for plane in planes)
    assert np.array_equal(coronal, kept[::-1].transpose(1, 0, 2)[::-1])
    assert np.array_equal(sagittal, kept[::-1].transpose(2, 1, 0)[::-1])
    for plane, pictures in zip(planes, (coronal, sagittal), strict=True):
        assert np.array_equal(plane.stored(pictures), plane.voxels)


def test_a_slab_is_not_seen_across() -> None:
    assert cut_across(make_ball(2.5), 20, 55) == []


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0)])
def test_two_planes_outvote_one(axes: tuple[int, int, int]) -> None:
    volume, inside = make_ball(2.5, axes), slice(15, -15)
    _, right = make_translator(Echo()).translate_volume(volume)
    _, alone = make_translator(Echo(wrong=10), across=0.0).translate_volume(volume)
    _, agreed = make_translator(Echo(wrong=10)).translate_volume(volume)
    truth, axial, median = (np.stack(answer.images)[inside, 30:50, 30:46] for answer in (right, alone, agreed))
    assert np.abs(axial - truth).mean() > 150
    assert np.abs(median - truth).mean() < 0.45 * np.abs(axial - truth).mean()


def test_coarse_volumes_and_models_of_axial_slices_see_axial_planes_only() -> None:
    coarse, alone, three = Echo(), Echo(), Echo()
    make_translator(coarse).translate_volume(make_ball(2.6))
    make_translator(alone, across=0.0).translate_volume(make_ball(2.5))
    counts: list[tuple[int, int]] = []
    make_translator(three).translate_volume(make_ball(2.5), progress=lambda done, total: counts.append((done, total)))
    assert coarse.seen <= SHAPE[2] >= alone.seen
    assert three.seen > 2 * alone.seen
    assert sum(done for done, _ in counts) == counts[-1][1]


def test_planes_between_lie_between_their_neighbours() -> None:
    pictures = np.array([0, 4, np.nan, 8], np.float32)[:, None, None]
    filled = fill_between(pictures, 2, 7)[:, 0, 0]
    assert np.array_equal(filled, [0, 2, 4, np.nan, np.nan, np.nan, 8], equal_nan=True)
    assert np.array_equal(fill_between(pictures[:2], 1, 2), pictures[:2])
