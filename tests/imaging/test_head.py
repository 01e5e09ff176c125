"""Heads are found alike in CT and MR, cut out, and put back where they were."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.draw import ellipse

from pipeline.formats.table import read_slices
from pipeline.imaging import head, outline
from pipeline.imaging.head import Box


def draw_head(modality: str, shape=(300, 260), centre=(160, 130), radii=(110, 85)) -> np.ndarray:
    """A head as each modality shows it: skull bright, scalp black and a head rest in CT; skull black, scalp bright in MR."""
    picture = np.zeros(shape, np.float32)
    layers = {"ct": ((1.0, 0.0), (0.93, 1.0), (0.86, 0.45)), "mr": ((1.0, 0.8), (0.93, 0.03), (0.86, 0.5))}[modality]
    for scale, value in layers:
        picture[ellipse(*centre, radii[0] * scale, radii[1] * scale, shape=shape)] = value
    if modality == "ct":
        rest = np.zeros(shape, bool)
        rest[ellipse(centre[0], centre[1], radii[0] + 14, radii[1] + 30, shape=shape)] = True
        rest &= ~ndimage.binary_erosion(rest, iterations=3)
        rest[: centre[0] + 20] = False
        picture[rest] = 1
    return ndimage.gaussian_filter(picture, 0.7)


def find_box(picture: np.ndarray, modality: str, margin: float = 0.0) -> Box | None:
    found = outline.find_outline(picture, modality)
    return head.enclose(found, modality, margin) if found else None


def blobs(shape=(120, 100), seed=0) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 3).astype(np.float32)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_the_box_fits_the_head_and_not_the_head_rest(modality: str) -> None:
    box = find_box(draw_head(modality), modality)
    assert box is not None
    visible = 0.93 * head.CT_SCALP if modality == "ct" else 1.0
    assert box.side == pytest.approx(220 * visible, rel=0.02)
    assert box.top + box.side / 2 == pytest.approx(160, abs=3)
    assert box.left + box.side / 2 == pytest.approx(130, abs=3)


def test_margin_widens_the_box_on_every_side() -> None:
    tight, wide = (find_box(draw_head("mr"), "mr", margin) for margin in (0, 0.1))
    assert wide.side == pytest.approx(1.2 * tight.side)
    assert wide.top == pytest.approx(tight.top - 0.1 * tight.side)


@pytest.mark.parametrize(("modality", "value"), [("ct", 0.0), ("mr", 0.0), ("mr", 0.3), ("mr", 1.0)])
def test_a_blank_picture_has_no_head(modality: str, value: float) -> None:
    picture = np.full((128, 128), value, np.float32)
    assert find_box(picture, modality) is None


def test_a_white_frame_around_an_mr_is_no_head() -> None:
    picture = draw_head("mr")
    framed = picture.copy()
    framed[:3] = framed[-3:] = framed[:, :3] = framed[:, -3:] = 1
    plain, with_frame = find_box(picture, "mr"), find_box(framed, "mr")
    assert with_frame.side == pytest.approx(plain.side, rel=0.03)


def test_noise_around_an_mr_is_no_head() -> None:
    picture = draw_head("mr")
    noisy = picture + np.abs(np.random.default_rng(0).normal(0, 0.04, picture.shape)).astype(np.float32)
    assert find_box(noisy, "mr").side == pytest.approx(find_box(picture, "mr").side, rel=0.03)


def test_a_ct_cut_by_its_field_of_view_is_framed_as_a_whole_head() -> None:
    cut = draw_head("ct")
    cut[:120] = 0
    box, whole = find_box(cut, "ct"), find_box(draw_head("ct"), "ct")
    assert box.side == pytest.approx(whole.side, rel=0.08)
    assert box.top == pytest.approx(whole.top, abs=0.08 * whole.side)


@pytest.mark.parametrize("rotation", [0.0, 17.0, -30.0])
@pytest.mark.parametrize("box", [(20.3, 15.6, 70.2), (-8.0, -14.5, 140.0)])
def test_cropping_is_undone_to_within_a_pixel(box: tuple[float, float, float], rotation: float) -> None:
    square = Box(*box, rotation)
    picture = np.zeros((120, 100), np.float32)
    spots = [(40, 35), (60, 60), (75, 40), (45, 62)]
    for spot in spots:
        picture[spot] = 1
    picture = ndimage.gaussian_filter(picture, 2)
    back = head.paste(head.crop(picture, square, 256), square, picture.shape)
    for row, column in spots:
        near = (slice(row - 5, row + 6), slice(column - 5, column + 6))
        found = np.array(ndimage.center_of_mass(back[near])) - 5
        assert np.abs(found).max() < 0.25
    assert np.abs(back - picture)[30:90, 25:75].max() < 0.1 * picture.max()


def test_points_go_into_the_crop_where_its_pixels_do() -> None:
    box = Box(20, 15, 70, 25)
    picture = np.zeros((120, 100), np.float32)
    picture[50, 40] = 1
    cut = head.crop(ndimage.gaussian_filter(picture, 1.5), box, 140)
    expected = box.points_inside(np.array([[50.5, 40.5]]), 140)[0] - 0.5
    assert np.abs(np.array(ndimage.center_of_mass(cut)) - expected).max() < 0.3


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    stripes = np.tile(np.array([0, 1], np.float32), (64, 32))
    cut = head.crop(stripes, Box(0, 0, 64), 16)
    assert np.abs(cut[2:-2, 2:-2] - 0.5).max() < 0.05


def test_beyond_the_picture_a_crop_is_black_and_values_keep_their_range() -> None:
    picture = blobs() + 0.2
    cut = head.crop(picture, Box(-50, -50, 200), 100)
    assert cut[:20].max() == 0
    assert cut.max() <= picture.max()


@pytest.mark.real
def test_boxes_of_registered_ct_and_mr_agree(real_data: Path) -> None:
    sides, centres = [], []
    for file in sorted((real_data / "pairs" / "CT").glob("*.png")):
        ct = find_box(read_slices(file)[0].pixels, "ct")
        mr = find_box(read_slices(real_data / "pairs" / "MR" / file.name)[0].pixels, "mr")
        assert ct is not None
        assert mr is not None
        sides.append(abs(np.log(mr.side / ct.side)))
        centres.append(np.hypot(mr.top + mr.side / 2 - ct.top - ct.side / 2, mr.left + mr.side / 2 - ct.left - ct.side / 2) / ct.side)
    assert np.median(sides) < 0.02
    assert np.percentile(sides, 95) < 0.08
    assert np.median(centres) < 0.02
    assert np.percentile(centres, 95) < 0.05


def test_an_outline_is_drawn_where_its_corners_say() -> None:
    square = outline.Outline(np.array([[10.0, 20.0], [10.0, 50.0], [40.0, 50.0], [40.0, 20.0]]))
    mask = square.mask((60, 70))
    assert mask[10:40, 20:50].all()
    assert mask.sum() == pytest.approx(900, rel=0.08)
    assert Image.fromarray(mask).getbbox() == pytest.approx((20, 10, 50, 40), abs=1)
    top, bottom, left, right = square.grown(5).bounds
    assert (top, bottom, left, right) == pytest.approx((5, 45, 15, 55), abs=0.2)
