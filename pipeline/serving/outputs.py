"""Translations written in the format of what was translated: pictures, NIfTI volumes with the same affine, DICOM series."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.atomic import new_file
from pipeline.errors import UserError
from pipeline.imaging.volumes import Volume
from pipeline.serving.label import Label

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
VOLUMES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Made:
    """A translation to be written: images (N, H, W), in Hounsfield units (unit "hu") or 0..1 (unit "grey"), and what made them.

    `contrast` is the MR contrast that was asked for, "" for none; `window` (level, width) is what a viewer should show of CT.
    """

    images: NDArray[np.float32]
    unit: str
    label: Label
    contrast: str
    window: tuple[float, float]


def write(volume: Volume, made: Made, source: Path, target: Path) -> Path:
    """Write the translation of `volume` (read from `source`) to `target`, a file or folder; gives the path written.

    Raises UserError when the name of `target` asks for another kind of file than the source is.
    """
    place = _place(volume, source, target)
    if volume.kind == "nifti":
        _write_nifti(volume, made, place)
    elif volume.kind == "dicom":
        from pipeline.serving import dicom_out

        dicom_out.write(volume, made, source, place)
    else:
        _write_pictures(made.images, _bits(source), place)
    return place


def to_uint(image01: NDArray[np.float32], bits: int = 8) -> NDArray[Any]:
    """Grey values in 0..1 as integers of 8 or 16 bits."""
    return np.rint(np.clip(image01, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def _place(volume: Volume, source: Path, target: Path) -> Path:
    name = target.name.lower()
    if volume.kind == "dicom":
        if source.is_dir() and target.is_file():
            raise UserError(f"{target}: a file, but a DICOM series needs a folder; name another")
        if not source.is_dir() and target.is_dir():
            return target / source.name
        if name.endswith((*PICTURES, *VOLUMES)):
            raise UserError(f"{target}: DICOM is translated to DICOM; name a {'folder' if source.is_dir() else '.dcm file'}")
        return target
    endings, kind = (VOLUMES, "a NIfTI volume") if volume.kind == "nifti" else (tuple(PICTURES), "a picture")
    if target.is_dir():
        return target / source.name
    if not name.endswith(endings):
        raise UserError(f"{target}: the result is {kind}; name a file that ends in {', '.join(endings)}")
    if len(volume.slices) > 1 and volume.kind == "picture" and not name.endswith((".tif", ".tiff")):
        raise UserError(f"{target}: {len(volume.slices)} pages need a .tif file")
    return target


def _bits(source: Path) -> int:
    with Image.open(source) as image:
        return 16 if image.mode.startswith("I") or image.mode == "F" else 8


def _write_pictures(images: NDArray[np.float32], bits: int, place: Path) -> None:
    kind = PICTURES[place.suffix.lower()]
    pages = [Image.fromarray(to_uint(image, bits if kind in ("PNG", "TIFF") else 8)) for image in images]
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if len(pages) > 1:
        options |= {"save_all": True, "append_images": pages[1:]}
    with new_file(place) as beside:
        pages[0].save(beside, kind, **options)


def _write_nifti(volume: Volume, made: Made, place: Path) -> None:
    voxels = volume.stored(made.images)
    header = volume.image.header.copy()
    header["descrip"] = f"SYNTHETIC, not for diagnosis; {made.label}".encode("ascii", "replace")[:79]
    header["cal_min"] = header["cal_max"] = 0
    stored = np.rint(voxels).astype(np.int16) if made.unit == "hu" else voxels.astype(np.float32)
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(1, 0)
    result = type(volume.image)(stored, volume.image.affine, header)
    content = result.to_bytes()
    with new_file(place) as beside:  # no time in the compressed file's header, so that the same input gives the same bytes
        beside.write_bytes(gzip.compress(content, mtime=0) if place.name.lower().endswith(".gz") else content)
