"""The one scale of CT: Hounsfield units from air to enamel, smooth, monotone, invertible, finest where soft tissue lies."""

import numpy as np
import pytest
import torch

from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST, ct_to_unit, unit_to_ct
from pipeline.models.window import window_of_hu


def test_it_reaches_from_air_to_enamel_and_back() -> None:
    hu = np.linspace(CT_LOWEST, CT_HIGHEST, 4001)
    unit = ct_to_unit(hu)
    assert (unit[0], unit[-1]) == (pytest.approx(0), pytest.approx(1))
    assert CT_LOWEST <= -1000
    assert CT_HIGHEST >= 2000
    assert (np.diff(unit) > 0).all()
    assert np.abs(unit_to_ct(unit) - hu).max() < 1e-6
    assert (ct_to_unit(np.array([-2000.0, 9000.0])) == ct_to_unit(np.array([CT_LOWEST, CT_HIGHEST]))).all()


@pytest.mark.parametrize(("hu", "finest"), [(40, 0.012), (-100, 0.02), (300, 0.035), (1500, 0.17), (-1000, 0.12)])
def test_a_step_of_16_bits_is_far_below_what_a_scanner_tells_apart(hu: float, finest: float) -> None:
    stored = np.rint(ct_to_unit(np.array([hu])) * 65535)
    step = (unit_to_ct((stored + 1) / 65535) - unit_to_ct((stored - 1) / 65535)) / 2
    assert 0 < float(step[0]) < finest


def test_soft_tissue_has_five_times_the_share_of_a_linear_scale() -> None:
    low, high = ct_to_unit(np.array([0.0, 80.0]))
    assert high - low > 5 * 80 / (CT_HIGHEST - CT_LOWEST)


def test_tensors_and_arrays_agree() -> None:
    hu = np.linspace(-1100, 3100, 50)
    assert np.allclose(ct_to_unit(torch.from_numpy(hu)).numpy(), ct_to_unit(hu))
    assert np.allclose(unit_to_ct(torch.from_numpy(ct_to_unit(hu))).numpy(), hu.clip(CT_LOWEST, CT_HIGHEST))


def test_a_window_is_an_interval_of_the_scale() -> None:
    low, high = window_of_hu(0, 80)
    assert -1 < low < 2 * float(ct_to_unit(np.array(40.0))) - 1 < high < 1
    assert window_of_hu(CT_LOWEST, CT_HIGHEST) == (pytest.approx(-1), pytest.approx(1))
