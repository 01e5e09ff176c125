"""Around a synthetic head is air, exactly; inside, air and everything else stays."""

import numpy as np

from pipeline.imaging.surroundings import AIR, clear_surroundings


def test_noise_and_floating_pieces_around_the_head_become_air() -> None:
    _, y, x = np.indices((12, 60, 60))
    head = np.hypot(y - 30, x - 30) < 21.5
    sinus = np.hypot(y - 20, x - 30) < 5
    ct = np.where(head, np.where(sinus, -850, 40), -960).astype(np.float32)
    ct[4:6, 2:4, 2:4] = 100  # a piece that floats
    ct[:, 30, 52] = -399.7  # rounds to the surface, which is no head
    cleared = clear_surroundings(ct)
    np.testing.assert_array_equal(cleared[head], ct[head])
    assert (cleared[~head] == AIR).all()


def test_air_alone_stays_air() -> None:
    assert (clear_surroundings(np.full((3, 8, 8), -700, np.float32)) == AIR).all()
