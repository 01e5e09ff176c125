"""Frames of DICOM files as slices: Hounsfield units where the header vouches for them, MR intensities, or numbers yet to be understood.

Classic, multi-frame and enhanced objects, native and compressed.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

from pipeline import privacy
from pipeline.formats import dicom_streams
from pipeline.formats.dicom_contrast import stated_contrast
from pipeline.formats.dicom_header import (
    NEEDED,
    PIXELS,
    find_burned_in,
    frame_affine,
    functional_group,
    get,
    image_type,
    load,
    nothing_quoted,
    numbers,
    tag,
    whole_number,
)  # fmt: skip
from pipeline.formats.histogram import AIR
from pipeline.formats.pictures import as_grey
from pipeline.formats.slices import LIMITS, Limits, NotAxial, OtherModality, Slice, Truncated, Unit, Unreadable, check_unpacked
from pipeline.formats.volume import Volume

# A picture without a modality, or of an "other" one, may be a CT or MR slice that some software stored anew.
MODALITIES: dict[str, Literal["ct", "mr", ""]] = {"CT": "ct", "MR": "mr", "OT": "", "SC": "", "": ""}
_OTHERS = {"RTDOSE": "a dose of radiotherapy", "SEG": "a segmentation", "PT": "PET", "US": "ultrasound", "NM": "nuclear medicine"}
_STAND_IN = re.compile(
    r"\W*((anon|patient|test)[a-z]*( patient)?|unknown|none|n/?a|null|removed|redacted|de-?identified|0+|x+|)\W*", re.IGNORECASE
)
_IDENTITIES = (
    ("patient", "PatientID"), ("study", "StudyInstanceUID"), ("frame of reference", "FrameOfReferenceUID"),
    ("series", "SeriesInstanceUID"), ("file", "SOPInstanceUID"),
)  # fmt: skip
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage, and with .1 to .4 its multi-frame kinds
_PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"  # Parametric Map Storage
# Words of Image Type (PS3.3 C.8.3.1.1.1, C.8.13.3.1.1, C.8.16.1.3, and of vendors) for what shows no anatomy slice by slice.
_NO_SLICE = {
    "PHASE MAP", "P", "ADC", "FA", "CBF", "CBV", "MTT", "TTP", "TMAX", "MIP", "MNIP", "MINIP", "MAX_IP", "MIN_IP", "VRT",
    "VOLUME_RENDER", "VOLUME RENDERING", "PROJECTION IMAGE",
}  # fmt: skip
UNDEFINED = 0xFFFFFFFF  # length of pixel data in packed pieces (PS3.5 A.4)
_ALLOWED = {"BitsAllocated": (1, 8, 16, 32, 64), "PixelRepresentation": (0, 1), "SamplesPerPixel": (1, 3, 4)}
_PAGE = re.compile(r"DOSE|PATIENT.?(INFO|PROTOCOL)|RESULT|REPORT|SUMMARY|SCREEN|PROTOCOL|SURVIEW|TABLE|GRAPH")


def read_slices(path: Path, limits: Limits = LIMITS) -> list[Slice]:
    """Every frame of the file in its stored order as seen from the feet.

    Raises Unreadable: Truncated, NotAxial (sagittal, coronal, localizer), OtherModality, or for what has no picture or is damaged.
    """
    dataset = load(path)
    with nothing_quoted(path):
        slices = decode(dataset, range(check_size(dataset, path, limits)), path)
        return [_seen(dataset, frame, slice_, path) for frame, slice_ in enumerate(slices)]


def decode(dataset: Dataset, frames: Sequence[int], path: Path) -> list[Slice]:
    """`frames` of a dataset as stored, neither turned nor placed. Raises Unreadable."""
    with nothing_quoted(path):
        reason = set_aside(dataset, frames[0], path)
        if reason is not None:
            raise reason
        count = whole_number(dataset, "NumberOfFrames", path, 1)
        for name in (*NEEDED, *(("BitsStored", "PixelRepresentation") if "PixelData" in dataset else ())):
            if get(dataset, name, path) in (None, ""):
                raise Unreadable(f"{path}: {tag(name)} is missing; without it the pixels cannot be read")
        _check_layout(dataset, path)
        _check_count(dataset, count, path)
        dicom_streams.check(dataset, frames, count)
        return [_frame(dataset, frame, count, path) for frame in frames]


def _check_layout(dataset: Dataset, path: Path) -> None:
    """Raises Unreadable naming the tag of a number that no pixels have."""
    allocated = whole_number(dataset, "BitsAllocated", path)
    allowed: dict[str, Sequence[int]] = {**_ALLOWED, "BitsStored": range(1, allocated + 1)}
    for name, numbers_ in allowed.items():
        value = whole_number(dataset, name, path, numbers_[0])
        if value not in numbers_:
            listed = f"1 to {allocated}" if name == "BitsStored" else ", ".join(map(str, numbers_))
            raise Unreadable(f"{path}: {tag(name)} is {value}; expected {listed}")
    highest = whole_number(dataset, "BitsStored", path, allocated) - 1
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated and whole_number(dataset, "HighBit", path, highest) > highest:
        raise Unreadable(f"{path}: {tag('HighBit')} is {dataset.HighBit}; expected {highest}, since pixels begin with the lowest bit")


def _check_count(dataset: Dataset, count: int, path: Path) -> None:
    """Raises Unreadable where a file holds another number of pictures than its header says: some would be lost."""
    groups = len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if groups > count:
        raise Unreadable(f"{path}: {count} pictures by {tag('NumberOfFrames')}, {groups} by its functional groups; write it anew")
    bits = whole_number(dataset, "BitsAllocated", path) * whole_number(dataset, "SamplesPerPixel", path)
    length = int(dataset.Rows) * int(dataset.Columns) * bits / 8
    held = max((len(dataset[name].value or b"") for name in PIXELS if name in dataset), default=0)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated and held >= (count + 1) * length:
        raise Unreadable(f"{path}: holds {held / length:.3g} pictures, but {tag('NumberOfFrames')} says {count}; write it anew")


def check_size(dataset: Dataset, path: Path, limits: Limits) -> int:
    """The number of frames, once limits and the length of the pixel data bear it out. Raises Unreadable, Truncated."""
    count = whole_number(dataset, "NumberOfFrames", path, 1)
    rows, columns = whole_number(dataset, "Rows", path), whole_number(dataset, "Columns", path)
    limits.check(path, rows, columns, count)
    bits = whole_number(dataset, "BitsAllocated", path, 16) * whole_number(dataset, "SamplesPerPixel", path, 1)
    length = rows * columns * count * bits // 8
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        check_unpacked(path, rows * columns * count)
        return count
    held = [len(dataset[name].value or b"") for name in PIXELS if name in dataset]
    if held and length > max(held):
        raise Truncated(f"{path}: the picture is shorter than the header says; copy it again")
    return count


def is_whole(path: Path) -> bool:
    """Whether a DICOM file is as long as its header says its pixels are; True where they are packed, since then only unpacking tells."""
    with nothing_quoted(path):
        dataset = pydicom.dcmread(path, defer_size=1024, force=True)
        for name in PIXELS:
            element = dataset.get_item(name)
            if isinstance(element, RawDataElement) and element.length != UNDEFINED:
                return bool(element.value_tell + element.length <= path.stat().st_size)
    return True


def set_aside(dataset: Dataset, frame: int, path: Path) -> Unreadable | None:
    """Why a picture is not used, None where it may be: no CT or MR, a page of text, a localizer, a mosaic."""
    modality = str(dataset.get("Modality") or "").strip().upper()
    words = image_type(dataset, frame)
    if modality not in MODALITIES:
        what = f"{_OTHERS[modality]}, " if modality in _OTHERS else ""
        return OtherModality(f"{path}: {what}neither CT nor MR by its own word")
    if str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY):
        said = " ".join([*words[2:], str(dataset.get("SeriesDescription") or "").upper()])
        if _PAGE.search(said):
            return OtherModality(f"{path}: a page for reading (dose, patient information or the like, a secondary capture), no slice")
    if "LOCALIZER" in words or "SCOUT" in words:
        return NotAxial(f"{path}: a localizer; only axial slices are used")
    if not _NO_SLICE.isdisjoint(words[2:]) or str(dataset.get("SOPClassUID") or "") == _PARAMETRIC_MAP:
        return OtherModality(
            f"{path}: a map or rendering that was computed from images (phase, diffusion, perfusion, projection), no slice"
        )
    if "MOSAIC" in words:
        return Unreadable(f"{path}: a mosaic of many slices; convert the series to NIfTI")
    return None


def group_key(dataset: Dataset) -> str:
    """Keyed hash of the patient; where its id is empty or such as ANONYMOUS, of the study, else frame of reference, else series."""
    for kind, name in _IDENTITIES:
        identity = str(dataset.get(name) or "").strip()
        if identity and not (kind == "patient" and _STAND_IN.fullmatch(identity)):
            return privacy.group_key(kind, identity)
    return ""


def _seen(dataset: Dataset, frame: int, slice_: Slice, path: Path) -> Slice:
    """A stored frame turned into the common view, with its place."""
    affine, spacing = frame_affine(dataset, frame, path)
    placed = affine is not None and bool(np.isfinite(affine).all())
    if affine is not None and not placed:
        affine[:3, 3] = 0
    volume = Volume(slice_.pixels.T[:, :, np.newaxis], affine, slice_.unit, "DICOM", str(path), spacing=spacing)
    if affine is not None and int(np.argmax(np.abs(affine[:3, 2]))) != 2:
        raise NotAxial(f"{path}: a sagittal or coronal slice; only axial slices are used")
    volume.check_spacing()
    seen = volume.slices[0]
    spacing = seen.spacing if spacing is not None else None
    return replace(slice_, pixels=np.ascontiguousarray(seen.pixels), spacing=spacing, position=seen.position if placed else None)


def _frame(dataset: Dataset, index: int, count: int, path: Path) -> Slice:
    modality = MODALITIES[str(dataset.get("Modality") or "").strip().upper()]
    values, unit, colour, window = _values(dataset, index, count, modality, path)
    if not np.isfinite(values).all():
        raise Unreadable(f"{path}: pixel values that are no numbers")
    return Slice(
        np.asarray(values, np.float32),
        unit=unit,
        frame=index,
        modality=modality,
        group_key=group_key(dataset),
        contrast=stated_contrast(dataset, index) if modality == "mr" else "",
        window=window,
        burned_in=find_burned_in(dataset),
        colour=colour,
    )


def _values(
    dataset: Dataset, index: int, count: int, modality: str, path: Path
) -> tuple[NDArray[Any], Unit, float, tuple[float, float] | None]:
    """Pixel values of a frame as stored in space: (values (rows, columns), unit, share of coloured pixels, window)."""
    stored = pixel_array(dataset, index=index) if count > 1 else pixel_array(dataset)
    stored = stored.reshape(stored.shape[-3:] if whole_number(dataset, "SamplesPerPixel", path, 1) > 1 else stored.shape[-2:])
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        grey, colour = as_grey(stored[..., :3])
        return grey, "grey", colour, None
    bits, signed = whole_number(dataset, "BitsStored", path, 16), bool(whole_number(dataset, "PixelRepresentation", path, 0))
    if not signed and any(dataset.get((group, 0x0102)) and dataset[group, 0x0102].value for group in range(0x6000, 0x6020, 2)):
        stored = stored & (2**bits - 1)  # an overlay drawn into the bits above the picture's (retired, PS3.5 8.1.2)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    padding = _padding(dataset, stored)
    values = apply_modality_lut(stored, dataset).astype(np.float64) if dataset.get("ModalityLUTSequence") else stored.astype(np.float64)
    transformation = functional_group(dataset, index, "PixelValueTransformationSequence") or dataset
    slope, intercept = (numbers(transformation, name, path) for name in ("RescaleSlope", "RescaleIntercept"))
    in_units = modality == "ct" and intercept is not None and str(transformation.get("RescaleType") or "HU").upper() == "HU"
    factor, shift = slope[0] if slope and slope[0] != 0 else 1.0, intercept[0] if intercept else 0.0
    measured = in_units or (modality == "ct" and (factor, shift) != (1, 0))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not measured:
        values = low + high - values  # shown inverted; Hounsfield units are what they are, however they are to be shown
    values = values * factor + shift
    if in_units:
        return _filled(values, padding, AIR), "hu", 0.0, None
    values = _filled(values, padding, None)
    window = None if modality == "mr" else _window(dataset, index, path) or ((low, high) if modality == "" else None)
    return values, "raw", 0.0, window


def _window(dataset: Dataset, index: int, path: Path) -> tuple[float, float] | None:
    """The values that the header says to show black and white (VOI LUT, PS3.3 C.11.2.1.2); None where it does not say."""
    display = functional_group(dataset, index, "FrameVOILUTSequence") or dataset
    center, width = numbers(display, "WindowCenter", path), numbers(display, "WindowWidth", path)
    if not center or not width or width[0] <= 1:
        return None
    return center[0] - 0.5 - (width[0] - 1) / 2, center[0] - 0.5 + (width[0] - 1) / 2


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Where the scanner says that it has no measurement (Pixel Padding Value, PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [value, limit if isinstance(limit, int) else value]
    if stored.dtype.kind == "i":  # some writers store it without the sign that the pixels have
        ends = [end - 2**16 if 2**15 <= end < 2**16 and stored.itemsize == 2 else end for end in ends]
    ends.sort()
    return (stored >= ends[0]) & (stored <= ends[1])


def _filled(values: NDArray[Any], padding: NDArray[np.bool_], fill: float | None) -> NDArray[Any]:
    """`values` with `fill` (default: the lowest measured value) where there was no measurement."""
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min() if fill is None else fill
    return values
