"""Near duplicates are found exactly, without comparing all with all."""

import numpy as np
import pytest

from pipeline.dataset import duplicates


def some_hashes(count: int, seed: int = 0) -> np.ndarray:
    """Random hashes, every other one a copy of an earlier one with some bits flipped."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (count, 256), dtype=np.uint8)
    for row in range(1, count, 2):
        bits[row] = bits[random.integers(row)]
        bits[row, random.choice(256, random.integers(1, 60), replace=False)] ^= 1
    return np.unique(bits, axis=0)


@pytest.mark.parametrize("distance", [0, 1, 7, 26, 40])
def test_the_search_finds_what_comparing_all_with_all_finds(distance: int) -> None:
    bits = some_hashes(400)
    apart = (bits[:, None] != bits[None]).sum(axis=2)
    expected = [(i, j) for i in range(len(bits)) for j in range(i + 1, len(bits)) if apart[i, j] <= distance]
    assert duplicates.near_pairs(bits, distance).tolist() == [list(pair) for pair in expected]


def test_memory_is_bounded_by_cutting_candidates_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = some_hashes(300)
    whole = duplicates.near_pairs(bits, 26)
    monkeypatch.setattr(duplicates, "CHUNK", 50)
    assert duplicates.near_pairs(bits, 26).tolist() == whole.tolist()


def test_hexadecimal_hashes_become_bits() -> None:
    assert duplicates.hash_bits(["f" * 64, "0" * 63 + "1"]).sum(axis=1).tolist() == [256, 1]


def test_chains_of_links_are_one_component() -> None:
    numbers = duplicates.components(6, np.array([[0, 1], [1, 2], [4, 5]]))
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[4] == numbers[5]
    assert len(set(numbers.tolist())) == 3
