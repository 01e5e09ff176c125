"""What the numbers of a file mean: Hounsfield units, those plus an offset, grey of a picture, MR intensities, or labels.

Few programs write down what they did to a CT. Its histogram tells: in Hounsfield units the commonest tissue of a head is brain or muscle,
at 0 to 80, with air at -1000 and bone up to 3000 (Buzug, Computed Tomography, 2008, table 8.1). Tags are believed unless the histogram
says plainly otherwise; where neither tells, the file is refused with what was seen.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.formats.histogram import (
    AIR,
    ENOUGH,
    FILL,
    SCALES,
    count_shifted,
    find_commonest,
    find_edge,
    find_fill,
    has_air,
    has_tissue,
    is_full_scale,
    is_hounsfield,
    is_label_map,
    is_plus_1000,
    is_windowed,
    is_wrapped,
    reach_edges,
    unwrap,
)  # fmt: skip
from pipeline.formats.slices import OtherModality, Slice, Unit, UnknownValues
from pipeline.formats.volume import Volume

CtValues = Literal["auto", "hu", "offset-1024", "grey"]
CT_VALUES = get_args(CtValues)

OFFSETS = (0, 1024, 32768, 32768 + 1024, -1024)  # what programs add to store them without a sign; or took off twice
CUT = 1500  # Hounsfield units; where many voxels share a highest number below this, bone was cut off
NARROWEST = 60  # from lowest to highest number; less has no head in Hounsfield units
END_OF_TYPE = 32767  # numbers of that size and more, far from all others, say that there was no measurement
SHARE_OF_FILL = 0.001  # of all that have one and the same such number
SPREAD = 1000.0  # what MR intensities that end at 1 or below are brought to
SAMPLE = 2**20  # numbers looked at


def parse_ct_values(word: str, option: str) -> CtValues:
    """`word`, which stands in `option`. Raises UserError for another than CT_VALUES."""
    if word not in CT_VALUES:
        raise UserError(f"{option} {word}: expected {', '.join(CT_VALUES)}")
    return cast(CtValues, word)


@dataclass(frozen=True)
class Meaning:
    """How to bring numbers to `unit`: (number - shift) / scale, cut to 0..1 where `clip` says so.

    `wrapped`: numbers from 32768 on are negative ones of 16 bits. `fill`: the number that a background was filled with, which becomes
    `background`; `outside`: only where it touches the picture's edges.
    """

    unit: Unit
    shift: float = 0.0
    scale: float = 1.0
    clip: bool = False
    fill: float | None = None
    background: float = 0.0
    outside: bool = False
    wrapped: bool = False
    modality: Literal["ct", "mr", ""] = ""
    note: str = ""

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """`values`, of a picture (H, W) or a volume (I, J, K), in `unit`."""
        if self.wrapped:
            values = unwrap(values)
        result = values if self.shift == 0 and self.scale == 1 else (values - np.float32(self.shift)) / np.float32(self.scale)
        if self.clip:
            result = np.clip(result, 0, 1)
        if self.fill is not None:
            filled = values == np.float32(self.fill)
            result = np.where(reach_edges(filled) if self.outside else filled, np.float32(self.background), result)
        return np.asarray(result, np.float32)


def interpret_slices(
    slices: list[Slice], source: object, modality: str = "", ct_values: CtValues = "auto", picture: bool = False
) -> tuple[list[Slice], list[str]]:
    """(slices in Hounsfield units or grey, what should be said of it). `modality`: what they should show, where the file does not say.

    Raises OtherModality for label maps, UnknownValues for a CT in no known scale.
    """
    if not slices:
        return [], []
    measured = _without_fill([slice_.pixels for slice_ in slices], picture)
    slices = [replace(slice_, pixels=pixels) for slice_, pixels in zip(slices, measured, strict=True)]
    first = slices[0]
    sample = np.concatenate([_sample(slice_.pixels) for slice_ in slices[:: max(1, len(slices) // 64)]])
    middle = slices[len(slices) // 2].pixels
    meaning = understand(sample, middle, first.unit, first.modality or modality, source, ct_values, first.window, picture)
    changed = [
        replace(slice_, pixels=meaning.apply(slice_.pixels), unit=meaning.unit, modality=meaning.modality or slice_.modality)
        for slice_ in slices
    ]
    return changed, [meaning.note] if meaning.note else []


def interpret_volume(volume: Volume, modality: str = "", ct_values: CtValues = "auto") -> Volume:
    """`volume` in Hounsfield units or grey; arguments and errors as `interpret_slices`."""
    volume = replace(volume, voxels=_without_fill([volume.voxels], not volume.calibrated)[0])
    middle = volume.voxels[:, :, volume.voxels.shape[2] // 2]
    meaning = understand(
        _sample(volume.voxels),
        middle,
        volume.unit,
        volume.modality or modality,
        volume.source,
        ct_values,
        volume.window,
        not volume.calibrated,
    )
    voxels = meaning.apply(volume.voxels)
    if meaning.unit == "hu" and ct_values == "auto" and (shifted := count_shifted(voxels)):
        raise UnknownValues(
            f"{volume.source}: {shifted} of {voxels.shape[2]} slices are Hounsfield units plus 1024 and the others are not; expected one"
            " scale (RescaleIntercept), so export the series anew"
        )
    return replace(
        volume,
        voxels=voxels,
        unit=meaning.unit,
        modality=meaning.modality or volume.modality,
        warnings=[*volume.warnings, *([meaning.note] if meaning.note else [])],
    )


def understand(
    values: NDArray[np.float32],
    plane: NDArray[np.float32],
    stated: Unit,
    modality: str,
    source: object,
    ct_values: CtValues = "auto",
    window: tuple[float, float] | None = None,
    picture: bool = False,
) -> Meaning:
    """What `values` (a sample) and `plane` (a picture of them) mean.

    `stated`: what the file says they are; `modality`: what they are or should be, "" for unknown; `window`: numbers that the file says to
    show black and white; `picture`: of a picture file, where grey has a white. Raises as `interpret_slices`.
    """
    white = 255 if stated == "grey" else 1
    if stated != "hu" and is_label_map(plane * white, values * white):
        raise OtherModality(f"{source}: {len(np.unique(values))} whole numbers in even patches: a mask or label map, no picture")
    if stated == "grey":
        return Meaning("grey")
    if modality == "mr":
        meaning = _mr(values, plane)
        # Small numbers of a volume are intensities like large ones; only those of a picture are shares of its white.
        small = meaning == Meaning("grey") and not picture and values.min() >= 0 and 0 < values.max() <= 1
        return replace(meaning, scale=float(values.max()) / SPREAD) if small else meaning
    if ct_values != "auto" and modality == "ct":
        return _as_told(values, ct_values)
    if values.size < ENOUGH and stated == "hu":
        return Meaning("hu")
    if modality == "ct" and values.size >= ENOUGH:
        return _ct(values, plane, stated, source, window)
    if values.size >= ENOUGH and (values < -500).mean() > FILL and is_hounsfield(values):  # without air an MR could pass for a CT
        return Meaning("hu", modality="ct")
    return _grey(values, window) if picture or window or modality == "ct" else Meaning("grey")


def _ct(
    values: NDArray[np.float32], plane: NDArray[np.float32], stated: Unit, source: object, window: tuple[float, float] | None
) -> Meaning:
    low, high = float(values.min()), float(values.max())
    if stated == "raw" and low >= 0 and high <= 255 and (window is not None or is_windowed(values)):
        return _grey(values, window)
    if is_wrapped(values):
        meaning = _ct(unwrap(values), unwrap(plane), stated, source, window)
        notes = ["numbers from 32768 on were read as negative ones", *([meaning.note] if meaning.note else [])]
        return replace(meaning, wrapped=True, note="; ".join(notes))
    if stated == "raw" and -NARROWEST < low < -0.5 and high - low < NARROWEST and has_air(values * 1000) and has_tissue(values * 1000):
        notes = ["values are Hounsfield units divided by 1000, and were multiplied", *_describe_cut(values * 1000)]
        return Meaning("hu", scale=0.001, note="; ".join(notes))
    for offset in OFFSETS if stated == "hu" or high - low >= NARROWEST else ():
        if is_hounsfield(values, offset):
            offset = 1000 if offset == 1024 and is_plus_1000(values) else offset
            notes = [_describe_offset(offset)] if offset else []
            notes += _describe_cut(values - offset)
            fill = find_edge(plane)
            if fill is None or fill - offset <= -900:
                return Meaning("hu", offset, note="; ".join(notes))
            notes.append(f"the background of {fill - offset:g} HU was taken for air")
            return Meaning("hu", offset, fill=fill, background=AIR, outside=True, note="; ".join(notes))
    if stated == "hu" and -32768 <= low < -300 and -500 < high <= 65535:
        return Meaning("hu")  # a slice of bone or fat alone, say: nothing speaks plainly against the tags
    if window is not None or (low >= 0 and high > 255 and is_full_scale(values)):
        return _grey(values, window)
    commonest = find_commonest(values)
    raise UnknownValues(
        f"{source}: values from {low:g} to {high:g}, most of them near {commonest:g}, are neither Hounsfield units"
        " (air -1000, brain 20 to 60) nor those plus 1024; say what they are with --ct-values hu, offset-1024 or grey"
        " (ct_values in a request), or convert the file"
    )


def _describe_offset(offset: int) -> str:
    if offset < 0:
        return f"values are Hounsfield units less {-offset}, which was added (taken off twice, once by the header)"
    return f"values are Hounsfield units plus {offset}, which was taken off"


def _describe_cut(hounsfield: NDArray[np.float32]) -> list[str]:
    """What is to be said where bone ends at one number, as in CT that were cut to a window before they were stored."""
    high = float(hounsfield.max())
    cut = high < CUT and float((hounsfield == high).mean()) > 0.005
    return [f"no value is above {high:g} HU, where many lie: what is denser was cut off, bone too"] if cut else []


def _as_told(values: NDArray[np.float32], ct_values: CtValues) -> Meaning:
    if ct_values == "grey":
        low, high = float(values.min()), float(values.max())
        return Meaning("grey", low, high - low or 1.0, clip=True)
    return Meaning("hu", 1024 if ct_values == "offset-1024" else 0)


def _mr(values: NDArray[np.float32], plane: NDArray[np.float32]) -> Meaning:
    """MR intensities as they stand; a background that was filled in becomes the lowest intensity. A CT is called one."""
    fill, edge = find_fill(values), find_edge(plane)
    if fill is None and (values < -500).mean() > FILL and is_hounsfield(values):
        return Meaning("hu", modality="ct")
    low, high = (float(end) for end in np.percentile(values, (0.5, 99.5)))
    if edge is not None and 0.1 < (edge - low) / ((high - low) or 1) < 0.9:  # as where the head alone was brought to a mean of 0
        note = f"the background of {edge:g} is brighter than parts of the head and was taken for {low:g}"
        return Meaning("grey", fill=edge, background=low, outside=True, note=note)
    if fill is None or fill >= 0:
        return Meaning("grey")
    rest = float(values[values > fill].min())
    if rest < fill / 2:
        # Values run on from it: a CT, or an MR about zero.
        return Meaning("hu", modality="ct") if (values < -500).mean() > FILL and is_hounsfield(values) else Meaning("grey")
    body = values[values > fill]
    if fill <= -900 and is_hounsfield(values) and body.max() > 300 and (body < -20).mean() > 0.005:
        return Meaning("hu", modality="ct")
    return Meaning("grey", fill=fill, background=rest, note=f"the background of {fill:g} was taken for {rest:g}")


def _grey(values: NDArray[np.float32], window: tuple[float, float] | None) -> Meaning:
    """Grey in 0..1: by the file's window, else by the white that numbers of this size have; numbers below 0 stay as they are."""
    if window is not None:
        return Meaning("grey", window[0], window[1] - window[0], clip=True)
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0:
        return Meaning("grey")
    if values.size >= ENOUGH and high not in SCALES and (values == high).mean() > 0.005:
        return Meaning("grey", scale=high or 1.0)
    return Meaning("grey", scale=next((scale for scale in SCALES if high <= scale), high))


def _without_fill(parts: list[NDArray[np.float32]], picture: bool) -> list[NDArray[np.float32]]:
    """The parts of a volume with the lowest measured number where one stands for none: -32768, say, or the largest float.

    In a `picture` the largest number of its bits is white.
    """
    for end in (min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)):
        if abs(end) < END_OF_TYPE or (picture and end in SCALES):
            continue
        others = [part[part != np.float32(end)] for part in parts]
        filled = sum(part.size - other.size for part, other in zip(parts, others, strict=True))
        known = [other for other in others if other.size]
        if (
            known
            and filled > SHARE_OF_FILL * sum(part.size for part in parts)
            and max(np.abs(other).max() for other in known) < abs(end) / 4
        ):
            lowest = min(other.min() for other in known)
            parts = [np.where(part == np.float32(end), lowest, part) for part in parts]
    return parts


def _sample(array: NDArray[Any]) -> NDArray[np.float32]:
    """At most about SAMPLE numbers of an array, evenly taken."""
    step = max(1, math.ceil((array.size / SAMPLE) ** (1 / array.ndim)))
    return np.asarray(array[(slice(None, None, step),) * array.ndim], np.float32).reshape(-1)
