"""What the page gets of a translation: pixels as integers, the slice to show first, and the file to download with its name."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.table import HEADERS, VOXELS, named
from pipeline.formats.volume import Volume
from pipeline.imaging import intensity
from pipeline.serving.slice_translator import Translation

GREY_LEVELS = 1000  # grey values 0..1 as the page gets them


def result_name(volume: Volume, source: Path, name: str) -> str:
    """The result's name: the upload's, marked as synthetic; a folder for a series; one file where a header and its voxels came as two."""
    if volume.format == "DICOM":
        return "synthetic.dcm" if len(volume.slices) == 1 and not source.is_dir() else "synthetic"
    endings = named(volume.format).ENDINGS
    ending = next((ending for ending in endings if name.lower().endswith(ending)), "")
    if part := next((part for part in (*HEADERS, *VOXELS) if name.lower().endswith(part)), ""):
        name, ending = name[: -len(part)], ""
    stem = name[: len(name) - len(ending)].encode()[:200].decode(errors="ignore")  # a file system takes 255 bytes
    return f"{stem}-synthetic{ending or endings[0]}"


def pack(output: Path) -> Path:
    """A folder as a zip without times, so that the same result is the same file."""
    if output.is_file():
        return output
    archive = output.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(output.iterdir()):
            packed.writestr(zipfile.ZipInfo(f"{output.name}/{file.name}"), file.read_bytes())
    shutil.rmtree(output)
    return archive


def source_levels(volume: Volume, modality: str) -> tuple[NDArray[np.int16], str]:
    """The source for the page: Hounsfield units where it has them, else grey values as a person would display them."""
    unit = volume.slices[0].unit
    images = [slice_.pixels if unit == "hu" else intensity.view(slice_.pixels, slice_.unit, modality) for slice_ in volume.slices]
    return to_levels(np.stack(images), unit), unit


def to_levels(images: NDArray[np.float32], unit: str) -> NDArray[np.int16]:
    """Little-endian 16-bit integers: Hounsfield units, or thousandths of grey."""
    return np.rint(np.clip(images if unit == "hu" else images * GREY_LEVELS, -32768, 32767)).astype("<i2")


def middle_slice(translation: Translation) -> int:
    """The slice to show first: the middle one of those with a head."""
    empty = set(translation.without_head)
    with_head = [number for number in range(len(translation.images)) if number not in empty]
    return with_head[len(with_head) // 2]
