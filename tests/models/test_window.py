"""CT compared through the window that a picture was stored with."""

import pytest
import torch
from torch import Tensor

from pipeline.models.window import WHOLE, limit_to_window, show_through_window, window_of_hu

BRAIN = torch.tensor([window_of_hu(0, 80)])


def on_scale(*hu: float) -> Tensor:
    return torch.tensor([window_of_hu(value, value)[0] for value in hu]).view(1, 1, 1, -1)


def test_the_whole_range_changes_nothing() -> None:
    ct = on_scale(-1000, 40, 1500)
    torch.testing.assert_close(show_through_window(ct, WHOLE), ct)
    torch.testing.assert_close(show_through_window(ct, torch.tensor([WHOLE])), ct)


def test_black_and_white_are_all_that_lies_beyond() -> None:
    shown = show_through_window(on_scale(-1000, 0, 40, 80, 1500), BRAIN).flatten()
    torch.testing.assert_close(shown[[0, 1, 3, 4]], torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    assert float(shown[2]) == pytest.approx(0, abs=1e-3)  # the scale is symmetric around 40 HU
    assert torch.equal(limit_to_window(on_scale(1500), BRAIN).flatten(), BRAIN[:, 1])


def gradient(prediction: Tensor, truth: Tensor) -> Tensor:
    prediction = prediction.clone().requires_grad_()
    loss = (show_through_window(prediction, BRAIN) - show_through_window(truth, BRAIN)).abs().sum()
    return torch.autograd.grad(loss, prediction)[0].flatten()


def test_what_a_window_cannot_tell_has_no_gradient() -> None:
    """Bone of 300 HU is as good as bone of 1500 in a brain window; both are white."""
    assert torch.equal(gradient(on_scale(300, -900), on_scale(1500, -100)), torch.zeros(2))


def test_a_prediction_beyond_its_window_is_drawn_back_where_the_truth_lies_inside() -> None:
    """A plain clamp would give no gradient at all here."""
    above, below = gradient(on_scale(500, -500), on_scale(40, 40))
    assert above > 0  # a step against the gradient makes it darker
    assert below < 0


def test_it_is_pushed_no_farther_out() -> None:
    values = on_scale(500, -500).requires_grad_()
    brighter, darker = torch.autograd.grad((show_through_window(values, BRAIN) * torch.tensor([-1.0, 1.0])).sum(), values)[0].flatten()
    assert (float(brighter), float(darker)) == (0, 0)


def test_a_plain_limit_has_no_gradient_beyond_the_window_and_the_same_values() -> None:
    values = on_scale(500, 40, -500).requires_grad_()
    shown = show_through_window(values, BRAIN, draw_in=False)
    assert torch.equal(shown, show_through_window(values, BRAIN))
    above, inside, below = torch.autograd.grad(shown.sum(), values)[0].flatten()
    assert (float(above), float(below)) == (0, 0)
    assert inside > 0


def test_each_slice_has_its_own_window() -> None:
    windows = torch.tensor([window_of_hu(0, 80), window_of_hu(-500, 1500)])
    black, grey = show_through_window(on_scale(-50).expand(2, 1, 1, 1), windows).flatten()
    assert float(black) == -1
    assert -1 < float(grey) < 1
