"""DICOM files: classic, multi-frame and enhanced, native and compressed, as slices in Hounsfield units (CT) or grey values (MR).

Numbers and a handful of code words are all that leaves a header here: errors quote nothing of it, and pydicom's warnings, which would,
are kept silent.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import ImplicitVRLittleEndian

from pipeline import privacy
from pipeline.formats import dicom_streams
from pipeline.formats.dicom_contrast import stated_contrast
from pipeline.formats.dicom_plane import functional_group, plane
from pipeline.formats.pictures import VISIBLE
from pipeline.formats.slices import MAX_PIXELS, MAX_VOXELS, NotAxial, OtherModality, Slice, Truncated, Unit, Unreadable

AIR = -1000.0  # Hounsfield units that stand for pixels outside of the scanned circle
# A picture without a modality, or of an "other" one, may be a CT or MR slice that some software stored anew.
MODALITIES: dict[str, Literal["ct", "mr", ""]] = {"CT": "ct", "MR": "mr", "OT": "", "SC": "", "": ""}
_STAND_IN = re.compile(
    r"\W*((anon|patient|test)[a-z]*( patient)?|unknown|none|n/?a|null|removed|redacted|de-?identified|0+|x+|)\W*", re.IGNORECASE
)
_IDENTITIES = (("patient", "PatientID"), ("study", "StudyInstanceUID"), ("series", "SeriesInstanceUID"), ("file", "SOPInstanceUID"))
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def read_frames(path: Path, frames: Sequence[int] | None = None) -> list[Slice]:
    """Every frame of the file in its stored order, or only `frames`, in their order.

    Raises Unreadable: Truncated, NotAxial (sagittal, coronal, localizer), OtherModality, or for what has no picture or is damaged.
    """
    dataset = load(path)
    with header_kept_quiet(path):
        count = int(dataset.get("NumberOfFrames") or 1)
        if not 0 < count * int(dataset.Rows) * int(dataset.Columns) <= MAX_VOXELS or int(dataset.Rows) * int(dataset.Columns) > MAX_PIXELS:
            raise Unreadable(f"{path}: claims {count} frames of {dataset.Columns} × {dataset.Rows} pixels")
        wanted = range(count) if frames is None else frames
        if any(not 0 <= frame < count for frame in wanted):
            raise Unreadable(f"{path}: no frame {max(wanted)}; it has {count}")
        dicom_streams.check(dataset, wanted, count)
        return [_slice(dataset, frame, count, path) for frame in wanted]


def load(path: Path, *, pixels: bool = True) -> Dataset:
    """The dataset of a DICOM file, with or without the file header that the standard asks for. Raises Unreadable."""
    with header_kept_quiet(path):
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
        if "Rows" not in dataset or "Columns" not in dataset:
            raise Unreadable(f"{path}: no DICOM file with a picture in it")
        if pixels and not any(name in dataset for name in _PIXELS):
            raise Truncated(f"{path}: the file ends before its picture; copy it again")
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def group_key(dataset: Dataset) -> str:
    """Keyed hash of the patient; of the study, then the series, where the patient's id is empty or a stand-in such as ANONYMOUS."""
    for kind, name in _IDENTITIES:
        identity = str(dataset.get(name) or "").strip()
        if identity and not (kind == "patient" and _STAND_IN.fullmatch(identity)):
            return privacy.pseudonym(kind, identity)
    return ""


def _slice(dataset: Dataset, index: int, count: int, path: Path) -> Slice:
    said = str(dataset.get("Modality") or "").strip().upper()
    if said not in MODALITIES:
        raise OtherModality(f"{path}: neither CT nor MR by its own word")
    modality = MODALITIES[said]
    where = plane(dataset, index)
    kinds = functional_group(dataset, index, "CTImageFrameTypeSequence") or functional_group(dataset, index, "MRImageFrameTypeSequence")
    image_type = [str(kind).upper() for kind in ((kinds.get("FrameType") if kinds else None) or dataset.get("ImageType") or [])]
    if not where.axial or "LOCALIZER" in image_type:
        what = "a localizer" if "LOCALIZER" in image_type else "a sagittal or coronal slice"
        raise NotAxial(f"{path}: {what}; only axial slices are used")
    if "MOSAIC" in image_type:
        raise Unreadable(f"{path}: a mosaic of many slices; convert the series to NIfTI")
    values, unit, colour = _values(dataset, index, count, modality)
    if not np.isfinite(values).all():
        raise Unreadable(f"{path}: pixel values that are no numbers")
    return Slice(
        np.ascontiguousarray(where.show(values), dtype=np.float32),
        unit=unit,
        frame=index,
        modality=modality,
        spacing=where.spacing,
        group_key=group_key(dataset),
        contrast=stated_contrast(dataset, index) if modality == "mr" else "",
        position=where.position,
        colour=colour,
    )


def _values(dataset: Dataset, index: int, count: int, modality: str) -> tuple[np.ndarray[Any, Any], Unit, float]:
    """Pixel values of a frame as stored in space: (values (rows, columns), unit, share of coloured pixels)."""
    stored = pixel_array(dataset, index=index) if count > 1 else pixel_array(dataset)
    stored = stored.reshape(stored.shape[-3:] if int(dataset.get("SamplesPerPixel") or 1) > 1 else stored.shape[-2:])
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    if stored.ndim == 3:
        colours = stored[..., :3] / np.float32(np.iinfo(stored.dtype).max)
        return colours @ np.array([0.299, 0.587, 0.114], np.float32), "grey", float((np.ptp(colours, axis=-1) > VISIBLE / 255).mean())
    bits = int(dataset.get("BitsStored") or 16)
    signed = bool(dataset.get("PixelRepresentation"))
    if not signed and any(dataset.get((group, 0x0102)) and dataset[group, 0x0102].value for group in range(0x6000, 0x6020, 2)):
        stored = stored & (2**bits - 1)  # an overlay drawn into the bits above the picture's (retired, PS3.5 8.1.2)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    padding = _padding(dataset, stored)
    values = stored.astype(np.float64)
    transformation = functional_group(dataset, index, "PixelValueTransformationSequence") or dataset
    slope, intercept = (transformation.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    in_units = modality == "ct" and intercept is not None and str(transformation.get("RescaleType") or "HU").upper() == "HU"
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and not in_units:
        values = low + high - values  # shown inverted; Hounsfield units are what they are, however they are to be shown
    if slope is not None or intercept is not None:
        factor = float(slope if slope is not None else 1)
        values = values * (factor if factor != 0 else 1.0) + float(intercept or 0)
    if in_units:
        return _filled(values, padding, AIR), "hu", 0.0
    if modality == "mr":
        return _filled(values, padding, None), "grey", 0.0
    shown = functional_group(dataset, index, "FrameVOILUTSequence") or dataset
    center, width = _first(shown, "WindowCenter"), _first(shown, "WindowWidth")
    bottom, top = float(low), float(high)
    if center is not None and width is not None and width > 1:
        bottom, top = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2  # PS3.3 C.11.2.1.2
    return np.clip((_filled(values, padding, None) - bottom) / (top - bottom), 0, 1), "grey", 0.0


def _padding(dataset: Dataset, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the scanner says that it has no measurement (Pixel Padding Value, PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = sorted((value, limit if isinstance(limit, int) else value))
    return (stored >= ends[0]) & (stored <= ends[1])


def _filled(values: np.ndarray[Any, Any], padding: np.ndarray[Any, Any], fill: float | None) -> np.ndarray[Any, Any]:
    """`values` with `fill` (default: the lowest measured value) where there was no measurement."""
    if padding.any() and not padding.all():
        values[padding] = values[~padding].min() if fill is None else fill
    return values


def _first(dataset: Dataset, name: str) -> float | None:
    value = dataset.get(name)
    if value is None or isinstance(value, str):
        return None
    return float(value[0]) if hasattr(value, "__len__") else float(value)


@contextlib.contextmanager
def header_kept_quiet(path: Path) -> Iterator[None]:
    """Say what is wrong in our words: pydicom's messages and warnings quote the header."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, Unreadable):
        raise
    except EOFError:
        raise Truncated(f"{path}: the file ends too early; copy it again") from None
    except Exception as error:  # pydicom and its decoders raise what they like on damaged files
        if "bytes" in str(error) and ("length" in str(error) or "less than" in str(error)):
            raise Truncated(f"{path}: the picture is shorter than the header says; copy it again") from None
        raise Unreadable(f"{path}: damaged DICOM file, or of a kind that cannot be decoded ({type(error).__name__})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of the RLE decoder, written in Rust; it has no other name to import
            raise
        raise Unreadable(f"{path}: damaged DICOM file (run lengths)") from None
    finally:
        logger.setLevel(level)
