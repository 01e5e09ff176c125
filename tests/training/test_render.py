"""Pairs drawn at the batch: the same as the plain simulator where both draw one thing, and fit for training whatever is drawn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.domain import CONTRASTS
from pipeline.phantom import sequences, shares
from pipeline.phantom.anatomy import cut, draw_subject
from pipeline.phantom.lesions import Lesion
from pipeline.phantom.tissues import PROPERTIES, Tissue
from pipeline.training import scanner, tissue_values
from pipeline.training.render import (
    AIR,
    COMPACT_BONE,
    FAR,
    HIGHEST,
    LOWEST,
    SOFTEST_BONE,
    Heads,
    Looks,
    composite,
    draw_frame,
    render,
    resample,
)

CLEAN = Looks(strength=0, turn=0, scale=0, shift=0, flip=False, by_millimetres=1, windowed=0, cut=0, cleared=1, free=0)
PERCENTILES = (1.0, 99.5)


@pytest.fixture(scope="module")
def stored() -> list[shares.Shares]:
    return [shares.store(cut(draw_subject(seed), position, 96, 256 / 96, 3.0)) for seed, position in ((7, 0.1), (3, 0.6), (11, 0.85))]


@pytest.fixture(scope="module")
def heads(stored: list[shares.Shares]) -> Heads:
    stack = torch.from_numpy(np.stack([one.stack() for one in stored]))
    return Heads(stack, torch.tensor([[0.0, 0.0, 200.0]] * len(stored)), stored[0].spacing)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_signals_are_those_of_the_plain_equations() -> None:
    settings = tissue_values.draw_settings(64, seeded())
    signals = tissue_values.compute_signals(settings).numpy()
    for line, (equation, *numbers, _) in enumerate(zip(*settings, strict=True)):
        tr, te, ti, flip, spacing, agent, field, fat = (float(number) for number in numbers)
        kind = sequences.EQUATIONS[int(equation)]
        sequence = sequences.Sequence(CONTRASTS[0], kind, tr, te, ti, flip, spacing, bool(agent), field, fat)
        at_field = {tissue: sequences.at_field(PROPERTIES[tissue], field) for tissue in Tissue}
        wanted = [sequences.compute_signal(at_field[t], sequence) * (fat if t in sequences.FATTY else 1) for t in Tissue]
        np.testing.assert_allclose(signals[line], wanted, rtol=2e-4, atol=2e-6, err_msg=str(sequence))


def test_settings_lie_in_the_ranges_of_one_protocol_and_all_are_drawn() -> None:
    settings = tissue_values.draw_settings(2000, seeded(1))
    drawn = {(int(line), tuple(name.tolist())) for line, name in zip(settings.equation, settings.contrast, strict=True)}
    wanted = {
        (sequences.EQUATIONS.index(p.equation), tuple(float(p.contrast is contrast) for contrast in CONTRASTS)) for p in sequences.PROTOCOLS
    }
    assert drawn == wanted
    mprage = settings.equation == sequences.EQUATIONS.index("mprage")
    assert ((settings.tr >= 1900) & (settings.tr <= 3000))[mprage].all()
    flair = settings.contrast[:, CONTRASTS.index("flair")] > 0
    null = torch.tensor([sequences.null_time(float(tr), PROPERTIES[Tissue.CSF].t1) for tr in settings.tr[flair]])
    share = settings.ti[flair] / null
    assert share.min() > 0.919
    assert share.max() < 1.081


def test_composite_is_what_shares_draw(stored: list[shares.Shares], heads: Heads) -> None:
    units, signals = tissue_values.draw_units(3, seeded()), torch.rand(3, len(Tissue), generator=seeded())
    channels = composite(heads, units, signals)
    for n, one in enumerate(stored):
        np.testing.assert_allclose(channels[n, 0] + AIR, one.draw(units[n].numpy()), atol=0.02)
        np.testing.assert_allclose(channels[n, 1], one.draw(signals[n].numpy()), atol=1e-5)
        np.testing.assert_array_equal(channels[n, 3] > 0, one.depth > 0)
        inside = one.depth > 0
        depth = (one.depth.astype(np.float32) - 1) * shares.DEPTH_STEP - shares.DEEPEST
        np.testing.assert_allclose((channels[n, 4] + FAR)[inside], depth[inside], atol=1e-4)


def test_a_straight_frame_gives_the_stored_pixels_back(stored: list[shares.Shares], heads: Heads) -> None:
    """On a grid of the stored pixel size that covers the stored part, resampling changes nothing."""
    height, width = stored[0].depth.shape
    channels = composite(heads, tissue_values.draw_units(3, seeded()), torch.rand(3, len(Tissue), generator=seeded()))
    frame = torch.zeros(3, 2, 3)
    frame[:, 0, 0] = frame[:, 1, 1] = height * heads.spacing / 2
    square = resample(channels, frame, heads.spacing, height)
    left = (height - width) // 2
    torch.testing.assert_close(square[..., left : left + width], channels, atol=0.03, rtol=1e-4)
    assert not square[..., : left - 1].any()


def test_a_frame_by_millimetres_keeps_sizes_and_one_by_the_head_does_not(heads: Heads) -> None:
    small = heads._replace(box=heads.box * 0.7)
    for share, same in ((1.0, True), (0.0, False)):
        looks = Looks(by_millimetres=share, turn=0, scale=0, shift=0, flip=False)
        frames = [draw_frame(each, looks, seeded()) for each in (heads, small)]
        assert torch.allclose(*frames) is same


def test_clean_pairs_show_tissues_as_tabled(heads: Heads) -> None:
    drawn = render(heads, 128, CLEAN, PERCENTILES, seeded())
    assert (drawn.ct[drawn.mask == 0] == AIR).all()
    brain = (drawn.ct > 15) & (drawn.ct < 60)
    assert brain.float().mean() > 0.1
    assert 800 < drawn.ct.max() < 3000
    assert torch.equal(drawn.window, torch.tensor([[LOWEST, HIGHEST]] * 3))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_drawn_is_fit_for_training(heads: Heads, seed: int) -> None:
    drawn = render(heads, 64, Looks(), PERCENTILES, seeded(seed))
    for name, pictures in drawn._asdict().items():
        assert pictures.dtype == torch.float32, name
        assert pictures.isfinite().all(), name
    for pictures in (drawn.mr, drawn.mr_input, drawn.mask, drawn.lesion):
        assert pictures.shape == (3, 1, 64, 64)
        assert pictures.min() >= 0
        assert pictures.max() <= 1
    assert drawn.ct.min() == AIR
    assert drawn.ct_input.min() >= LOWEST
    assert drawn.ct_input.max() <= HIGHEST
    assert (drawn.ct_weight >= 0).all()


def test_a_window_censors_what_lies_outside(heads: Heads) -> None:
    drawn = render(heads, 64, Looks(windowed=1.0), PERCENTILES, seeded(2))
    low, high = drawn.window.view(3, 2, 1, 1, 1).unbind(1)
    cleared = drawn.ct_input == -1000  # outside the head, where nothing was seen
    assert ((drawn.ct_input >= low - 1e-3) | cleared).all()
    assert not (cleared & (drawn.mask > 0)).float().mean() > 0.2  # the field of view may end inside a head
    assert (drawn.ct_input <= high + 1e-3).all()
    assert ((high - low) < 3000).all()
    assert (drawn.ct.amax((1, 2, 3)) > high.view(-1)).any()  # truth goes on beyond it


def test_a_picture_that_does_not_say_its_window_is_read_through_the_one_it_is_taken_for(heads: Heads) -> None:
    """Brain stays near its Hounsfield units, a little wrong, since the picture's own window differs a little from 0..80 HU."""
    drawn = render(heads, 64, Looks(windowed=1.0, read_as=(0.0, 80.0), cut=0), PERCENTILES, seeded(2))
    assert torch.equal(drawn.window, torch.tensor([[0.0, 80.0]] * 3))
    brain = (drawn.ct > 20) & (drawn.ct < 45)
    difference = torch.stack(
        [(display - truth)[inside].mean() for display, truth, inside in zip(drawn.ct_input, drawn.ct, brain, strict=True)]
    )
    assert (difference.abs() < 20).all()
    assert difference.std() > 0.5
    assert (drawn.ct_input[drawn.ct < -500] < 15).all()


def test_a_look_without_a_name_weighs_nothing_from_ct_to_mr(heads: Heads) -> None:
    free, named = (render(heads, 64, Looks(free=share), PERCENTILES, seeded(3)) for share in (1.0, 0.0))
    assert not free.contrast.any()
    assert not free.mr_weight.any()
    assert free.ct_weight.any()
    assert torch.equal(named.mr_weight.flatten(1).any(1), named.contrast.any(1))


def test_lesions_weigh_more() -> None:
    lesion = Lesion("bleed", (28.0, -20.0, 25.0), 18.0, 4.0, 5)
    plane = cut(replace(draw_subject(9), lesion=lesion), (25.0 + 72) / 148, 96, 256 / 96, 3.0)
    stack = torch.from_numpy(shares.store(plane).stack()).unsqueeze(0)
    drawn = render(Heads(stack, torch.tensor([[0.0, 0.0, 200.0]]), plane.frame.grid_spacing), 64, CLEAN, PERCENTILES, seeded())
    inside = drawn.lesion > 0.99
    assert inside.sum() > 10
    assert drawn.ct_weight[inside].min() > 3.9
    assert drawn.ct_weight[(drawn.mask > 0) & (drawn.lesion == 0) & (drawn.ct < SOFTEST_BONE)].max() == 1
    assert drawn.ct_weight[drawn.mask == 0].max() < 0.5


def test_bone_weighs_more_where_ct_is_made_and_only_there(heads: Heads) -> None:
    drawn = render(heads, 64, replace(CLEAN, bone=3.0), PERCENTILES, seeded())
    bone, brain = drawn.ct > COMPACT_BONE, (drawn.ct < SOFTEST_BONE) & (drawn.mask > 0) & (drawn.lesion == 0)
    assert bone.sum() > 100
    assert drawn.ct_weight[bone & (drawn.lesion == 0)].unique().tolist() == [3]
    assert drawn.ct_weight[brain].unique().tolist() == [1]
    assert drawn.mr_weight.max() <= CLEAN.lesion
    alike = render(heads, 64, replace(CLEAN, bone=1.0), PERCENTILES, seeded())
    assert torch.equal(alike.mr_weight, drawn.mr_weight)


def test_the_same_seed_gives_the_same(heads: Heads) -> None:
    first, again, other = (render(heads, 64, Looks(), PERCENTILES, seeded(seed)) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.mr_input, other.mr_input)


def test_without_strength_a_scanner_changes_nothing() -> None:
    pictures, mask = torch.rand(2, 1, 32, 32, generator=seeded()), torch.ones(2, 1, 32, 32)
    torch.testing.assert_close(scanner.acquire_mr(pictures, mask, 0.0, seeded()), pictures, atol=1e-5, rtol=1e-4)
    hounsfield = pictures * 2000 - 1000
    torch.testing.assert_close(scanner.acquire_ct(hounsfield, -pictures * 50, mask, 0.0, seeded()), hounsfield, atol=0.05, rtol=0)


def test_every_fault_of_an_mr_scanner_is_drawn_now_and_then() -> None:
    """Of a small bright square, an echo on the same axis (ghost or fold-over), or stripes everywhere, in some of many pictures."""
    square, mask = torch.zeros(200, 1, 64, 64), torch.ones(200, 1, 64, 64)
    square[:, :, 2:6, 30:34] = 1
    drawn = scanner.acquire_mr(square, mask, 1.0, seeded(1))
    far = drawn[:, 0, 40:60, 28:36].amax((1, 2))  # where the square's row lands when the field of view is 0.7 to 0.9 of the side
    assert 0.02 < (far > 0.5).float().mean() < 0.12, "fold-over"
    level = drawn[:, 0].flatten(1).median(1).values
    assert 0.005 < level.median() < 0.06, "Rician noise lifts what is dark"
    peak = drawn.amax((1, 2, 3))
    assert peak.std() > 0.05, "shading and resolution"


def test_blur_has_the_width_that_is_asked_for() -> None:
    point = torch.zeros(2, 1, 33, 33)
    point[:, :, 16, 16] = 1
    spread = scanner.blur(point, torch.tensor([0.6, 1.1]))
    at = torch.arange(33) - 16.0
    width = ((spread.sum(2).squeeze(1) * at**2).sum(1)).sqrt()
    torch.testing.assert_close(spread.sum((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(width, torch.tensor([0.6, 1.1]), atol=0.06, rtol=0)


def test_percentiles_are_those_of_the_head() -> None:
    pictures, mask = torch.rand(2, 1, 64, 64, generator=seeded()), torch.zeros(2, 1, 64, 64)
    mask[:, :, 10:40, 20:50] = 1
    (median,) = scanner.percentiles(pictures, mask, (0.5,))
    for n in range(2):
        inside = pictures[n][..., ::2, ::2][mask[n][..., ::2, ::2] > 0]
        assert float(median[n]) == pytest.approx(float(inside.median()), abs=0.02)
    assert scanner.percentiles(pictures, torch.zeros_like(mask), (0.5,))[0].eq(0).all()  # a slice without a head
