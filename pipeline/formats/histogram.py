"""What the histogram of a file's numbers tells: whether they are Hounsfield units, with which offset, or labels."""

import numpy as np
from numpy.typing import NDArray

AIR = -1000.0
ENOUGH = 1024  # numbers; fewer have no histogram
FILL = 0.01  # share of one and the same lowest number from which it is a background that was filled in
TISSUE = (-30.0, 95.0)  # Hounsfield units; the commonest of a head lies here
SCALES = (1, 255, 1023, 4095, 16383, 65535)  # white, by the number of bits
BETWEEN = 0.25  # of a head's numbers, at most so many lie between air and fat
FLAT = 0.02  # of a picture's range, between the quartiles of what is neither black nor white; no window for a brain gives less
FEW_LABELS = 12  # at most so many different whole numbers make a label map; real 8-bit pictures have more than 120
MANY_LABELS = 64  # at most so many where most neighbours are alike


def is_hounsfield(values: NDArray[np.float32], offset: int = 0) -> bool:
    """Whether the histogram is that of a head in Hounsfield units once `offset` is taken off.

    Measured on real heads and on MR of many scalings: around the commonest tissue, 50 each way, lies 35 to 77 % of a CT's body in all but
    the slices at the vertex, and at most 33 % of an MR's; between air and fat lies little of a CT.
    """
    values = values - offset
    fill = find_fill(values)
    measured = values if fill is None else values[values > fill]
    body = measured[measured > -300]
    if body.size < max(50, 0.01 * values.size) or body.max() > 65535:
        return False
    if np.percentile(measured, 0.1) < -2100 or np.percentile(measured, 99.5) > 4100:
        return False
    commonest = find_commonest(body)
    alike = float((np.abs(body - commonest) < 50).mean())
    dense = float((body > 900).mean())  # teeth and petrous bone; soft tissue, where an offset was not taken off
    if values.min() >= 0:  # cut off at 0, so that the background is 0; the noise of an MR must not pass for brain
        black, between = float((values == fill).mean()), float(((body > 110) & (body < 250)).mean())
        return black > 0.1 and body.max() > 300 and 15 <= commonest <= TISSUE[1] and alike > 0.45 and between < 0.12 and dense < 0.35
    if offset:
        between = _between(measured) / body.size
        lost = offset < 0 and (dense > 0.2 or body.max() < 300)  # then what looks like brain is air
        return TISSUE[0] <= commonest <= TISSUE[1] and alike > 0.34 and between < BETWEEN and not lost
    without_air = float((values < -300).mean()) < FILL  # cut out; or an offset was not taken off, and air passes for brain
    tissue = TISSUE[0] <= commonest <= TISSUE[1] and alike > 0.12 and not (without_air and dense > 0.2)
    return tissue or has_air(measured)  # or a phantom of plastic, a slice of bone


def _between(values: NDArray[np.float32]) -> int:
    """How many numbers lie between air and fat."""
    return int(((values > -850) & (values < -250)).sum())


def has_air(values: NDArray[np.float32]) -> bool:
    """Whether much lies in the narrow peak that only air in Hounsfield units makes."""
    low = values[values < -300]
    return low.size > 0.05 * values.size and float((np.abs(low - AIR) < 40).mean()) > 0.6 and float(np.percentile(low, 0.1)) > -1100


def is_plus_1000(values: NDArray[np.float32]) -> bool:
    """Whether Hounsfield units, recognised as plus 1024, are plus 1000: by where air lies, else by where brain does."""
    fill = find_fill(values)
    measured = values if fill is None else values[values > fill]
    air = measured[measured < 300]
    if air.size > FILL * values.size:
        return float(np.median(air)) < 16
    return fill is not None and fill < 100 and find_commonest(measured[measured > 724]) < 1047


def count_shifted(voxels: NDArray[np.float32]) -> int:
    """How many planes along the third axis are Hounsfield units plus 1024 in a volume of Hounsfield units: their header forgot it."""
    step = max(1, max(voxels.shape[:2]) // 128)
    planes = [voxels[::step, ::step, k].reshape(-1) for k in range(voxels.shape[2])]
    return sum(plane.size >= ENOUGH and plane.min() > -300 and is_hounsfield(plane, 1024) for plane in planes)


def is_wrapped(values: NDArray[np.float32]) -> bool:
    """Whether negative Hounsfield units of 16 bits were taken for numbers without a sign: -1000 is 64536 then."""
    if values.min() < 0 or (values >= 32768).mean() < FILL or ((values > 8192) & (values < 32768)).mean() > 0.001:
        return False
    return is_hounsfield(unwrap(values))


def unwrap(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(values >= 32768, values - np.float32(65536), values)


def has_tissue(values: NDArray[np.float32]) -> bool:
    """Whether the commonest of what is no air is brain or muscle in Hounsfield units, with little between air and fat."""
    body = values[values > -300]
    if body.size <= 0.01 * values.size or _between(values) > BETWEEN * body.size:
        return False
    return TISSUE[0] <= find_commonest(body) <= TISSUE[1]


def find_commonest(values: NDArray[np.float32]) -> float:
    """Middle of the fullest of bins ten wide (thousandths of a wide range, hundredths of a narrow one), smoothed over three."""
    low, high = float(values.min()), float(values.max())
    if low == high:  # NumPy puts bins half a unit around it, which a number beyond 1e17 cannot be told from
        return low
    bins = int(np.clip((high - low) / 10, 1, 1000)) if high - low > 100 else 100
    counts, edges = np.histogram(values.astype(np.float64), bins=bins)
    best = int(np.convolve(counts, (1, 1, 1), "same").argmax())
    return float(edges[best] + edges[best + 1]) / 2


def find_fill(values: NDArray[np.float32]) -> float | None:
    """The lowest number, where so many have it that it was filled in."""
    lowest = float(values.min())
    share = float((values == lowest).mean())
    return lowest if FILL < share < 1 else None


def find_edge(plane: NDArray[np.float32]) -> float | None:
    """The number that most of a picture's edges have, where one and the same fills most of them."""
    edges = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])
    numbers, counts = np.unique(edges, return_counts=True)
    return float(numbers[counts.argmax()]) if counts.max() > 0.6 * edges.size else None


def reach_edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of a mask, in each plane of a volume, that hangs together with the plane's edges."""
    if mask.ndim == 3:
        return np.stack([reach_edges(mask[:, :, k]) for k in range(mask.shape[2])], axis=2)
    from scipy import ndimage  # half a second, which few files need

    pieces, _ = ndimage.label(np.pad(mask, 1, constant_values=True))
    return np.asarray(pieces[1:-1, 1:-1] == pieces[0, 0])


def is_flat(values: NDArray[np.float32]) -> bool:
    """Whether soft tissue is all of one grey, as where the whole range of a CT was brought to that of a picture, or in a window of bone."""
    low, high = float(values.min()), float(values.max())
    between = values[(values > low + 0.1 * (high - low)) & (values < high - 0.1 * (high - low))]
    return between.size >= ENOUGH and float(np.subtract(*np.percentile(between, (75, 25)))) < FLAT * (high - low)


def is_windowed(values: NDArray[np.float32]) -> bool:
    """Whether many numbers are black and many white, as in a picture of a CT in a window. A CT whose whole range was brought to 0..1, or
    to attenuation, is no such picture: its bone does not end at white."""
    ends = [float((values == end).mean()) for end in (values.min(), values.max())]
    return ends[0] > 0.05 and ends[1] > 0.005 and not is_flat(values)


def is_full_scale(values: NDArray[np.float32]) -> bool:
    """Whether numbers reach white, that of a number of bits, or one where many end, and have greys below it."""
    high = float(values.max())
    return (
        high <= SCALES[-1]
        and not is_flat(values)
        and (any(0.9 * scale <= high <= scale for scale in SCALES[1:]) or bool((values == high).mean() > 0.005))
    )


def is_label_map(plane: NDArray[np.float32], values: NDArray[np.float32]) -> bool:
    """Whether there are only few whole numbers, or some more in even patches."""
    if values.size < ENOUGH or values.min() < 0 or not np.abs(values - np.rint(values)).max() < 1e-3:
        return False
    distinct = np.unique(values).size
    if distinct > MANY_LABELS:
        return False
    between = (plane > plane.min()) & (plane < plane.max())
    pairs = between[:, :-1] & between[:, 1:]
    even = int(pairs.sum()) > ENOUGH // 2 and float((plane[:, :-1] == plane[:, 1:])[pairs].mean()) > 0.5
    return 2 <= distinct <= FEW_LABELS or even
