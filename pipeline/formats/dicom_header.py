"""DICOM headers: loaded without trust, read without quoting. Numbers and a handful of code words are all that leaves a header.

Patient coordinates grow to the left, to the back and to the head (LPS, PS3.3 C.7.6.2); affines here are RAS, as elsewhere in the package.
"""

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.formats.silence import silent
from pipeline.formats.slices import OtherModality, Truncated, Unreadable, check_unpacked

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
NEEDED = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
_LPS = np.diag([-1.0, -1.0, 1.0])
_NO_PICTURE = {
    "SR": "a structured report", "RTSTRUCT": "contours of radiotherapy", "RTPLAN": "a plan of radiotherapy", "PR": "a presentation state",
    "KO": "a selection of key objects", "REG": "a registration", "RTRECORD": "a record of radiotherapy", "AU": "sound", "DOC": "a document",
    "ECG": "a curve",
}  # fmt: skip
_FILMED = {
    "DF": "a digitised film", "SD": "a scanned document", "SI": "a scanned image", "DRW": "a drawing", "DV": "digitised video",
}  # fmt: skip
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage


def load(path: Path, *, pixels: bool = True) -> Dataset:
    """The dataset of a DICOM file, with or without the file header that the standard asks for.

    Raises Unreadable, OtherModality for an object that holds no picture, Truncated.
    """
    with nothing_quoted(path):
        try:
            _check_deflated(path)
            dataset = pydicom.dcmread(path, stop_before_pixels=not pixels)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
        if "Rows" not in dataset or "Columns" not in dataset:
            _complain(path, dataset)
        if pixels and not any(name in dataset for name in PIXELS):
            raise Truncated(f"{path}: the file ends before its picture; copy it again")
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding  # as pydicom found it
            explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def whole_number(dataset: Dataset, name: str, path: Path, default: int | None = None) -> int:
    """A whole number of the header. Raises Unreadable naming the tag where it is missing (and there is no default) or no number."""
    value = get(dataset, name, path)
    if value is None or value == "":
        if default is None:
            raise Unreadable(f"{path}: {tag(name)} is missing; without it the pixels cannot be read")
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Unreadable(f"{path}: {tag(name)} is no whole number") from None


def numbers(dataset: Dataset, name: str, path: Path, count: int | None = None) -> list[float] | None:
    """The numbers of an attribute; None where it is absent or empty, or there are not `count` of them.

    Raises Unreadable naming the tag where they are no finite numbers.
    """
    value = get(dataset, name, path)
    if value is None or value == "":
        return None
    try:
        values = [float(part) for part in (value if hasattr(value, "__iter__") and not isinstance(value, str) else [value])]
    except (TypeError, ValueError):
        values = [np.nan]
    if not np.isfinite(values).all():
        raise Unreadable(f"{path}: {tag(name)} is no number (with a comma for the decimal point, say)")
    return values if values and count in (None, len(values)) else None


def get(dataset: Dataset, name: str, path: Path) -> Any:
    """An attribute's value, None where it is absent. Raises Unreadable naming the tag where it cannot be understood."""
    try:
        return dataset.get(name)
    except Exception:  # pydicom converts at the first look, and raises what it likes
        raise Unreadable(f"{path}: {tag(name)} cannot be understood (a number with a comma for the decimal point, say)") from None


def tag(name: str) -> str:
    """An attribute's name with its number, as viewers show it."""
    number = tag_for_keyword(name) or 0
    return f"{name} ({number >> 16:04X},{number & 0xFFFF:04X})"


def find_burned_in(dataset: Dataset) -> str:
    """Why text, a patient's name among it, may be burned into the pixels; "" where nothing in the header says so.

    Burned In Annotation (PS3.3 C.7.6.1.1); where it does not say, Conversion Type of secondary captures (C.8.6.1).
    """
    stated = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if stated == "YES":
        return f"{tag('BurnedInAnnotation')} is YES"
    made = str(dataset.get("ConversionType") or "").strip().upper()
    if stated != "NO" and made in _FILMED:
        return f"{tag('ConversionType')} is {made} ({_FILMED[made]}), and {tag('BurnedInAnnotation')} does not say NO"
    return ""


def functional_group(dataset: Dataset, frame: int, name: str) -> Dataset | None:
    """The item of the macro `name` that holds for `frame` of an enhanced object: its own, else the shared one; None in classic objects."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items):
            item = items[index].get(name) or []
            if len(item) > 0:
                return item[0]  # type: ignore[no-any-return]
    return None


def image_type(dataset: Dataset, frame: int) -> list[str]:
    """The words of Image Type, of the frame where it has its own."""
    kinds = functional_group(dataset, frame, "CTImageFrameTypeSequence") or functional_group(dataset, frame, "MRImageFrameTypeSequence")
    words = (kinds.get("FrameType") if kinds else None) or dataset.get("ImageType") or []
    return [str(word).upper() for word in ([words] if isinstance(words, str) else words)]


def frame_affine(dataset: Dataset, frame: int, path: Path) -> tuple[NDArray[np.float64] | None, tuple[float, float] | None]:
    """(affine of the frame from (column, row, 0) to RAS millimetres with a third column of 1 mm, spacing of rows and columns).

    The affine is None where orientation, position or spacing is missing or impossible, spacing None where that is.
    """
    measures = functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
    spacing = numbers(measures, "PixelSpacing", path, 2) or numbers(dataset, "ImagerPixelSpacing", path, 2)
    if spacing is not None and min(spacing) <= 0:
        spacing = None
    pair = (spacing[0], spacing[1]) if spacing else None
    cosines = numbers(functional_group(dataset, frame, "PlaneOrientationSequence") or dataset, "ImageOrientationPatient", path, 6)
    corner = numbers(functional_group(dataset, frame, "PlanePositionSequence") or dataset, "ImagePositionPatient", path, 3)
    if cosines is None:
        return None, pair
    along_row, along_column = np.array(cosines[:3]), np.array(cosines[3:])  # of growing column index, and of growing row index
    normal = np.cross(along_row, along_column)
    if not 0.9 < np.linalg.norm(normal) < 1.1:
        return None, pair
    rows, columns = pair or (1.0, 1.0)
    along_row, along_column = along_row / np.linalg.norm(along_row), along_column / np.linalg.norm(along_column)
    upwards = normal * np.sign(normal[np.argmax(np.abs(normal))]) / np.linalg.norm(normal)
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ np.stack([along_row * columns, along_column * rows, upwards], axis=1)
    affine[:3, 3] = _LPS @ np.array(corner) if corner else np.nan
    return affine, pair


@contextlib.contextmanager
def nothing_quoted(path: Path) -> Iterator[None]:
    """Say what is wrong in words of this package: pydicom's messages and warnings quote the header."""
    try:
        with silent("pydicom"):
            yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError, Unreadable):
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


def _complain(path: Path, dataset: Dataset) -> None:
    modality = str(dataset.get("Modality") or "").strip().upper()
    if modality in _NO_PICTURE:
        raise OtherModality(f"{path}: {_NO_PICTURE[modality]}, no picture")
    if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY or "DirectoryRecordSequence" in dataset:
        raise OtherModality(f"{path}: a DICOMDIR, which lists other files; no picture")
    missing = [name for name in ("Rows", "Columns") if name not in dataset]
    if len(missing) == 1 or "BitsAllocated" in dataset:
        raise Unreadable(f"{path}: {tag(missing[0])} is missing; without it the pixels cannot be read")
    raise Unreadable(f"{path}: no DICOM file with a picture in it")


def _check_deflated(path: Path) -> None:
    """Raises Unreadable for a deflated dataset that would fill the memory; pydicom unpacks it without looking."""
    with path.open("rb") as file:
        start = file.read(144)
        if start[128:132] != b"DICM" or start[132:136] != b"\x02\0\0\0":
            return
        meta = file.read(int.from_bytes(start[140:144], "little") & 0xFFFF)
        if DeflatedExplicitVRLittleEndian.encode() not in meta:
            return
        unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (packed := file.read(2**16)):
            while packed and not unpacker.eof:  # behind its end, the rest would stay unconsumed for ever
                unpacked += len(unpacker.decompress(packed, 2**20))
                check_unpacked(path, unpacked // 4)
                packed = unpacker.unconsumed_tail
