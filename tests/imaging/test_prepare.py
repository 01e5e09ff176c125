"""From a slice to network pixels and back."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.draw import ellipse

from pipeline.formats.slices import Slice
from pipeline.imaging import head, intensity
from pipeline.imaging.prepare import NoHead, find_outlines, prepare, prepare_volume
from pipeline.params import Preprocess, Window

PREPROCESS = Preprocess(
    pixels=128, margin=0.04, upright=False, ct_window=Window(level=40, width=80), mr_percentiles=[1.0, 99.5], teacher_pairs=0
)  # fmt: skip


def hounsfield_head() -> np.ndarray:
    """A CT in Hounsfield units: air, fat, bone, brain, and a head rest."""
    picture = np.full((256, 256), -1000, np.float32)
    for radii, value in (((105, 85), -100), ((98, 78), 1200), ((90, 70), 35)):
        picture[ellipse(128, 128, *radii)] = value
    picture[ellipse(150, 110, 12, 9)] = 5
    picture[245:248, 40:216] = 300
    return picture


def test_a_ct_in_hounsfield_units_goes_onto_the_networks_scale_and_back() -> None:
    ct = hounsfield_head()
    prepared = prepare(Slice(ct, "hu"), "ct", PREPROCESS)
    assert (prepared.low, prepared.high) == (-1000, 3000)
    assert prepared.array.shape == prepared.mask.shape == (128, 128)
    back = intensity.unit_to_ct(head.paste(prepared.array, prepared.box, ct.shape))
    assert back.min() == pytest.approx(-1000, abs=0.01)
    assert back.max() == pytest.approx(1200, abs=60)
    inside_brain = np.zeros(ct.shape, bool)
    inside_brain[ellipse(128, 128, 82, 62)] = True
    inside_brain[ellipse(150, 110, 18, 15)] = False
    assert back[inside_brain] == pytest.approx(35, abs=1.5)
    assert back[150, 110] == pytest.approx(5, abs=1.5)


def test_the_head_rest_is_gone() -> None:
    prepared = prepare(Slice(hounsfield_head(), "hu"), "ct", PREPROCESS, head.Box(0, 0, 256))
    assert prepared.array[121:].max() == 0


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
    shown = [intensity.display(prepared.array, "ct", PREPROCESS.ct_window) for prepared in (upright, expected)]
    assert np.abs(shown[0] - shown[1])[expected.mask].mean() < 0.06


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


def test_the_ct_scale_keeps_bone_and_gives_soft_tissue_a_tenth() -> None:
    hounsfield = np.linspace(-1000, 3000, 4001, dtype=np.float32)
    unit = intensity.ct_to_unit(hounsfield)
    assert unit[0] == pytest.approx(0, abs=1e-6)
    assert unit[-1] == pytest.approx(1)
    assert (np.diff(unit) > 0).all()
    assert np.abs(intensity.unit_to_ct(unit) - hounsfield).max() < 0.5
    brain = intensity.ct_to_unit(np.array([0.0, 80.0]))
    assert 0.1 < brain[1] - brain[0] < 0.12
    stored = np.rint(unit * 65535) / 65535  # what 16 bits lose
    assert np.abs(intensity.unit_to_ct(stored.astype(np.float64)) - hounsfield)[np.abs(hounsfield - 40) < 50].max() < 0.05


def test_the_ct_scale_is_the_same_for_arrays_and_tensors() -> None:
    hounsfield = np.array([-2000.0, -90.0, 40.0, 1200.0, 4000.0])
    tensor = torch.from_numpy(hounsfield)
    assert intensity.ct_to_unit(tensor).numpy() == pytest.approx(intensity.ct_to_unit(hounsfield))
    unit = intensity.ct_to_unit(hounsfield)
    assert intensity.unit_to_ct(torch.from_numpy(unit)).numpy() == pytest.approx([-1000, -90, 40, 1200, 3000])


def test_a_picture_knows_no_more_than_its_window() -> None:
    ct = hounsfield_head()
    picture = np.clip(ct / 80, 0, 1).astype(np.float32)
    prepared = prepare(Slice(picture), "ct", PREPROCESS)
    assert (prepared.low, prepared.high) == (0, 80)
    inside = intensity.unit_to_ct(prepared.array)[ndimage.binary_erosion(prepared.mask, iterations=4)]
    assert -10 < inside.min() < 10  # cutting and enlarging overshoot a little at edges
    assert 70 < inside.max() < 95
    whole = prepare(Slice(ct, "hu"), "ct", PREPROCESS, prepared.box)
    shown = [intensity.display(one.array, "ct", PREPROCESS.ct_window) for one in (prepared, whole)]
    assert np.abs(shown[0] - shown[1])[prepared.mask].mean() < 0.03


@pytest.mark.parametrize("stretch", [1, 2, 3])
def test_voxels_that_are_no_squares_give_the_same_head(stretch: int) -> None:
    square = Slice(hounsfield_head(), "hu", spacing=(0.9, 0.9))
    flat = Slice(np.ascontiguousarray(hounsfield_head()[:, ::stretch]), "hu", spacing=(0.9, 0.9 * stretch))
    wanted, seen = (prepare(slice_, "ct", PREPROCESS) for slice_ in (square, flat))
    assert wanted.box.side == seen.box.side == 256
    assert (wanted.mask != seen.mask).mean() < 0.02
    assert np.corrcoef(wanted.array.ravel(), seen.array.ravel())[0, 1] > 0.98
    back = head.paste(seen.array, seen.box, flat.pixels.shape, seen.scale)
    assert np.corrcoef(back.ravel(), intensity.ct_to_unit(flat.pixels).ravel())[0, 1] > 0.95


def test_a_small_head_stays_small_where_millimetres_are_known() -> None:
    adult, child = (prepare(Slice(hounsfield_head(), "hu", spacing=(mm, mm)), "ct", PREPROCESS) for mm in (0.9, 0.6))
    assert child.mask.sum() == pytest.approx(adult.mask.sum() * (0.6 / 0.9) ** 2, rel=0.03)
    by_itself = PREPROCESS.model_copy(update={"field_of_view": None})
    adult, child = (prepare(Slice(hounsfield_head(), "hu", spacing=(mm, mm)), "ct", by_itself) for mm in (0.9, 0.6))
    assert child.mask.sum() == pytest.approx(adult.mask.sum(), rel=0.01)


def test_neighbouring_slices_of_a_volume_are_seen_alike() -> None:
    random = np.random.default_rng(0)
    slices = []
    for number in range(20):
        pixels = np.zeros((128, 128), np.float32)
        pixels[ellipse(64 + random.normal(0, 2), 64, 55, 45)] = 500 * random.uniform(0.8, 1.2)
        pixels += random.random(pixels.shape, dtype=np.float32)
        slices.append(Slice(pixels, spacing=(1.8, 1.8), position=3.0 * number))
    slices.insert(0, Slice(np.zeros((128, 128), np.float32), spacing=(1.8, 1.8), position=-3.0))
    together = prepare_volume(slices, "mr", PREPROCESS, find_outlines(slices, "mr"))
    assert together[0] is None
    alone = [prepare(slice_, "mr", PREPROCESS) for slice_ in slices[1:]]
    for measure in (lambda prepared: prepared.high, lambda prepared: prepared.box.top):
        jumps = [np.abs(np.diff([measure(prepared) for prepared in some])).mean() for some in (together[1:], alone)]
        assert jumps[0] < 0.2 * jumps[1]
