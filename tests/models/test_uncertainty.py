"""Where a translation is uncertain."""

import numpy as np

from pipeline.models.uncertainty import estimate_uncertainty


def rise(images: np.ndarray) -> np.ndarray:
    """The difference to the left neighbour, grey where there is none: it moves with its input, but is another when that is mirrored."""
    return np.clip(0.5 + images - np.roll(images, 1, 2), 0, 1)


def picture() -> np.ndarray:
    image = np.zeros((1, 16, 16), np.float32)
    image[0, 5:9, 5:9] = 0.7
    return image


def test_a_network_that_moves_and_turns_with_its_input_is_certain() -> None:
    assert np.allclose(estimate_uncertainty(np.copy, picture()), 0, atol=1e-4)


def test_uncertainty_is_where_mirroring_changes_the_answer_by_hand() -> None:
    uncertainty = estimate_uncertainty(rise, picture())
    # Left edge: a step beyond the range, so 1, in seven of eight answers; no step to the right neighbour, so 0.5, in the mirrored one.
    values = np.array([1.0] * 7 + [0.5])
    assert np.allclose(uncertainty[0, 5:9, 5], values.std(), atol=1e-5)
    assert uncertainty[0, 0, 0] == 0
