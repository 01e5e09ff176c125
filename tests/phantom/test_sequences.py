"""The signal equations against values worked by hand, and the acquisitions that are drawn."""

import numpy as np
import pytest

from pipeline.domain import CONTRASTS, Contrast
from pipeline.phantom.sequences import (
    ECHOES,
    Sequence,
    at_field,
    compute_signal,
    draw_sequence,
    gradient_echo,
    inversion_recovery,
    mprage,
    spin_echo,
)
from pipeline.phantom.tissues import PROPERTIES, Tissue


def test_spin_echo_by_hand() -> None:
    # 0.8 |1 - 2 exp(-(500 - 5)/1000) + exp(-500/1000)| exp(-10/100) = 0.8 · 0.387389 · 0.904837
    assert spin_echo(0.8, t1=1000, t2=100, tr=500, te=10) == pytest.approx(0.28042, abs=1e-5)


def test_spin_echo_limits() -> None:
    assert spin_echo(0.7, t1=800, t2=80, tr=1e6, te=0.0) == pytest.approx(0.7)
    assert spin_echo(1.0, t1=800, t2=80, tr=1e6, te=80) == pytest.approx(np.exp(-1), rel=1e-6)


def test_inversion_recovery_by_hand() -> None:
    # |1 - 2 exp(-0.5) + 2 exp(-(4000 - 10)/1000) - exp(-4)| exp(-20/100) = 0.194378 · 0.818731
    assert inversion_recovery(1.0, t1=1000, t2=100, tr=4000, te=20, ti=500) == pytest.approx(0.159143, abs=1e-5)


def test_inversion_time_of_ln2_nulls_the_signal() -> None:
    assert inversion_recovery(1.0, t1=1000, t2=100, tr=1e6, te=0, ti=1000 * np.log(2)) == pytest.approx(0, abs=1e-9)


def test_gradient_echo_is_brightest_at_the_ernst_angle() -> None:
    ernst = np.rad2deg(np.arccos(np.exp(-20 / 900)))
    at, below, above = (gradient_echo(1.0, 900, 60, tr=20, te=4, flip=flip) for flip in (ernst, ernst - 3, ernst + 3))
    assert at > max(below, above)
    assert gradient_echo(0.8, 900, 60, tr=1e6, te=0.0, flip=90) == pytest.approx(0.8)


@pytest.mark.parametrize("t1", [300, 900, 1500, 4200])
def test_mprage_is_the_steady_state_of_its_pulses(t1: float) -> None:
    """The closed form against magnetisation that is followed pulse by pulse until it no longer changes."""
    tr, te, ti, flip, spacing = 2300.0, 3.0, 900.0, 9.0, 8.0
    angle, half, along = np.deg2rad(flip), ECHOES // 2, 1.0

    def recover(along: float, time: float) -> float:
        return 1 + (along - 1) * np.exp(-time / t1)

    for _ in range(40):
        along, middle = recover(-along, ti - half * spacing), 0.0
        for pulse in range(ECHOES):
            if pulse == half:
                middle = along * np.sin(angle)
            along = recover(along * np.cos(angle), spacing)
        along = recover(along, tr - ti - half * spacing)
    wanted = abs(middle) * np.exp(-te / 60)
    assert mprage(1.0, t1, 60, tr, te, ti, flip, spacing) == pytest.approx(wanted, rel=1e-9)


def test_relaxation_at_three_tesla() -> None:
    """Grey and white matter near Stanisz and Rooney; fluid as before; contrast agent adds the same to 1/T1."""
    grey, white, fluid, rim = (at_field(PROPERTIES[t], 3.0) for t in (Tissue.GREY, Tissue.WHITE, Tissue.CSF, Tissue.RIM))
    assert 1450 < grey.t1 < 1700
    assert 830 < white.t1 < 1000
    assert fluid.t1 == PROPERTIES[Tissue.CSF].t1
    before = PROPERTIES[Tissue.RIM]
    assert 1 / rim.t1_agent - 1 / rim.t1 == pytest.approx(1 / before.t1_agent - 1 / before.t1)


@pytest.mark.parametrize("seed", range(10))
def test_drawn_flair_nulls_fluid_and_not_brain(seed: int) -> None:
    sequence = draw_sequence(np.random.default_rng(seed), "flair")
    assert compute_signal(PROPERTIES[Tissue.CSF], sequence) < 0.5 * compute_signal(PROPERTIES[Tissue.GREY], sequence)


@pytest.mark.parametrize("seed", range(30))
def test_drawn_t1_shows_white_matter_brighter_than_grey_and_fluid_dark(seed: int) -> None:
    sequence = draw_sequence(np.random.default_rng(seed), "t1")
    white, grey, fluid = (
        compute_signal(at_field(PROPERTIES[t], sequence.field), sequence) for t in (Tissue.WHITE, Tissue.GREY, Tissue.CSF)
    )
    assert white > grey > fluid, sequence


def test_agent_brightens_what_takes_it_up() -> None:
    plain, agent = (Sequence(Contrast.T1, "spin_echo", tr=500, te=12, agent=given) for given in (False, True))
    assert compute_signal(PROPERTIES[Tissue.RIM], agent) > 1.5 * compute_signal(PROPERTIES[Tissue.RIM], plain)
    assert compute_signal(PROPERTIES[Tissue.WHITE], agent) < 1.1 * compute_signal(PROPERTIES[Tissue.WHITE], plain)


def test_every_contrast_and_field_is_drawn() -> None:
    g = np.random.default_rng(0)
    drawn = [draw_sequence(g) for _ in range(200)]
    assert {sequence.contrast for sequence in drawn} == set(CONTRASTS)
    assert {sequence.field for sequence in drawn} == {1.5, 3.0}
    assert {sequence.equation for sequence in drawn if sequence.contrast == "t1"} == {
        "spin_echo", "inversion_recovery", "gradient_echo", "mprage",
    }  # fmt: skip
