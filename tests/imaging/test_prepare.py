"""From a slice to network pixels and back."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import ellipse

from pipeline.formats.slices import Slice
from pipeline.imaging import head, intensity
from pipeline.imaging.prepare import NoHead, prepare
from pipeline.params import Preprocess, Window

PREPROCESS = Preprocess(
    pixels=128, margin=0.04, upright=False, ct_window=Window(level=40, width=80), mr_percentiles=[1.0, 99.5], bits=8, teacher_pairs=0
)  # fmt: skip


def hounsfield_head() -> np.ndarray:
    """A CT in Hounsfield units: air, fat, bone, brain, and a head rest."""
    picture = np.full((256, 256), -1000, np.float32)
    for radii, value in (((105, 85), -100), ((98, 78), 1200), ((90, 70), 35)):
        picture[ellipse(128, 128, *radii)] = value
    picture[ellipse(150, 110, 12, 9)] = 5
    picture[245:248, 40:216] = 300
    return picture


def test_a_ct_in_hounsfield_units_goes_through_the_window_and_back() -> None:
    ct = hounsfield_head()
    made = prepare(Slice(ct, "hu"), "ct", PREPROCESS)
    assert (made.low, made.high) == (0, 80)
    assert made.array.shape == made.mask.shape == (128, 128)
    assert made.array.min() == 0
    assert made.array.max() == 1
    back = intensity.denormalise(head.paste(made.array, made.box, ct.shape), made.low, made.high)
    inside_brain = np.zeros(ct.shape, bool)
    inside_brain[ellipse(128, 128, 82, 62)] = True
    inside_brain[ellipse(150, 110, 18, 15)] = False
    assert back[inside_brain] == pytest.approx(35, abs=1.5)
    assert back[150, 110] == pytest.approx(5, abs=1.5)


def test_the_head_rest_is_gone() -> None:
    made = prepare(Slice(hounsfield_head(), "hu"), "ct", PREPROCESS, head.Box(0, 0, 256))
    assert made.array[121:].max() == 0


def test_an_mr_is_normalised_inside_its_head() -> None:
    picture = np.zeros((200, 220), np.float32)
    picture[ellipse(100, 110, 80, 65)] = 900
    picture[ellipse(100, 110, 60, 45)] = 400 + 100 * np.random.default_rng(0).random(len(ellipse(100, 110, 60, 45)[0]))
    dim, bright = (prepare(Slice((picture * gain).astype(np.float32)), "mr", PREPROCESS) for gain in (0.5, 3))
    assert bright.high == pytest.approx(6 * dim.high, rel=1e-3)
    assert np.abs(bright.array - dim.array).max() < 0.01
    assert bright.array[bright.mask].mean() > 0.3


@pytest.mark.parametrize("degrees", [-25, 12])
def test_a_leaning_head_is_turned_upright_when_asked(degrees: int) -> None:
    straight = hounsfield_head()
    straight[240:] = -1000
    leaning = Slice(ndimage.rotate(straight, degrees, reshape=False, order=1, cval=-1000), "hu")
    upright = prepare(leaning, "ct", PREPROCESS.model_copy(update={"upright": True}))
    assert upright.box.rotation == pytest.approx(-degrees, abs=2)
    assert prepare(leaning, "ct", PREPROCESS).box.rotation == 0
    expected = prepare(Slice(straight, "hu"), "ct", PREPROCESS)
    assert (upright.mask != expected.mask).mean() < 0.03
    assert np.abs(upright.array - expected.array)[expected.mask].mean() < 0.06


def test_two_pictures_can_be_framed_alike() -> None:
    ct = Slice(hounsfield_head(), "hu")
    box = prepare(ct, "ct", PREPROCESS).box
    shifted = Slice(ndimage.shift(hounsfield_head(), (6, 0), cval=-1000), "hu")
    framed = prepare(shifted, "ct", PREPROCESS, box)
    assert framed.box == box
    moved = ndimage.center_of_mass(framed.mask)[0] - ndimage.center_of_mass(prepare(ct, "ct", PREPROCESS).mask)[0]
    assert moved == pytest.approx(6 * 128 / box.side, abs=0.7)


def test_no_head_is_an_error_that_says_so() -> None:
    with pytest.raises(NoHead, match="no head found in a CT slice of 64×48 pixels"):
        prepare(Slice(np.zeros((48, 64), np.float32)), "ct", PREPROCESS)


def test_a_view_shows_hounsfield_units_in_the_brain_window_and_raw_mr_stretched() -> None:
    assert intensity.view(np.array([[-1000, 40, 900]], np.float32), "hu", "ct").tolist() == [[0, 0.5, 1]]
    grey = np.array([[0, 0.25, 1]], np.float32)
    assert intensity.view(grey, "grey", "mr").tolist() == grey.tolist()
    raw = intensity.view(np.linspace(0, 4000, 1000, dtype=np.float32)[None], "grey", "mr")
    assert raw.min() == 0
    assert raw.max() == 1
