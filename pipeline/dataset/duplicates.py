"""Near duplicates by perceptual hash, found without comparing all with all.

Two hashes of 256 bits that differ in at most d bits, cut into d // 2 + 1 bands, agree up to one bit in at least one band (pigeonhole).
So each hash is only compared with those that share a band with it, or a band with one bit flipped (multi-index hashing, Norouzi, Punjani
and Fleet, CVPR 2012).
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 256
CHUNK = 1_000_000  # candidate pairs compared at a time, so that memory does not grow with the number of candidates


def hash_bits(hexadecimal: Iterable[str]) -> NDArray[np.uint8]:
    """Hashes written as 64 hexadecimal digits as an array of bits (N, 256)."""
    joined = b"".join(bytes.fromhex(text) for text in hexadecimal)
    return np.unpackbits(np.frombuffer(joined, np.uint8).reshape(-1, HASH_BITS // 8), axis=1)


def near_pairs(bits: NDArray[np.uint8], distance: int) -> NDArray[np.int64]:
    """All pairs (i, j), i < j, of rows of `bits` (N, 256) that differ in at most `distance` bits; shape (M, 2), sorted, each once.

    Rows must be distinct for the search to be fast: take unique rows first.
    """
    words = np.packbits(bits, axis=1).view(np.uint64)
    found = []
    for first, second in _candidates(bits, distance):
        near = np.bitwise_count(words[first] ^ words[second]).sum(axis=1) <= distance
        found.append(first[near] * np.int64(len(bits)) + second[near])
    keys = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    return np.stack([keys // max(len(bits), 1), keys % max(len(bits), 1)], axis=1)


def components(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the connected component of each of `count` items, where `pairs` (M, 2) are the links."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def _candidates(bits: NDArray[np.uint8], distance: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Chunks of index pairs (i < j) that agree in some band up to one bit; a pair may come several times."""
    bands = distance // 2 + 1
    for band in range(bands):
        # Every bands-th bit: neighbouring bits of a hash are alike, and a band of like bits would tell little apart.
        columns = bits[:, band::bands].astype(np.uint64)
        width = columns.shape[1]
        weights = np.uint64(1) << np.arange(min(width, 64), dtype=np.uint64)
        keys = columns[:, :64] @ weights
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for flip in [np.uint64(0), *weights]:
            yield from _matches(keys ^ flip, ordered, order)


def _matches(
    wanted: NDArray[np.uint64], ordered: NDArray[np.uint64], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (i, j), i < j, where the key of j equals `wanted[i]`; at most about CHUNK at a time."""
    start = np.searchsorted(ordered, wanted, "left")
    counts = np.searchsorted(ordered, wanted, "right") - start
    ends = np.cumsum(counts)
    first = 0
    while first < len(wanted):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
        some = counts[first:last]
        i = np.repeat(np.arange(first, last), some)
        within = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
        j = order[np.repeat(start[first:last], some) + within]
        forward = i < j
        yield i[forward], j[forward]
        first = last
