"""The signal equations against values worked by hand."""

import numpy as np
import pytest

from pipeline.domain import CONTRASTS
from pipeline.phantom.signal import Sequence, compute_signal, draw_sequence, inversion_recovery, spin_echo
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


@pytest.mark.parametrize("seed", range(10))
def test_drawn_flair_nulls_fluid_and_not_brain(seed: int) -> None:
    sequence = draw_sequence(np.random.default_rng(seed), "flair")
    assert compute_signal(PROPERTIES[Tissue.CSF], sequence) < 0.5 * compute_signal(PROPERTIES[Tissue.GREY], sequence)


def test_agent_brightens_what_takes_it_up() -> None:
    plain, agent = (Sequence("t1", tr=500, te=12, agent=given) for given in (False, True))
    assert compute_signal(PROPERTIES[Tissue.RIM], agent) > 1.5 * compute_signal(PROPERTIES[Tissue.RIM], plain)
    assert compute_signal(PROPERTIES[Tissue.WHITE], agent) < 1.1 * compute_signal(PROPERTIES[Tissue.WHITE], plain)


def test_every_contrast_is_drawn() -> None:
    g = np.random.default_rng(0)
    assert {draw_sequence(g).contrast for _ in range(200)} == set(CONTRASTS)
