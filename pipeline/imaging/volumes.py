"""Whole volumes for translation: slices from foot to head, and what it takes to write others in the same geometry.

As in readers.py, pydicom and nibabel are imported with the first file that needs them.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.errors import UserError
from pipeline.imaging import pictures
from pipeline.imaging.formats import kind_of
from pipeline.imaging.slices import Slice, Unreadable

if TYPE_CHECKING:
    from pipeline.imaging.series import Reference


@dataclass(frozen=True)
class Volume:
    """Slices of one examination, all of the same size, from foot to head.

    kind: "nifti" (then `image` is the nibabel image: affine, header, shape), "dicom" (then `references[i]` says which frame of which file
    slice i came from, to take the header from) or "picture".
    warnings: what a person should know, such as missing positions.
    """

    slices: list[Slice] = field(repr=False)
    kind: Literal["nifti", "dicom", "picture"]
    image: Any = field(default=None, repr=False)
    references: "list[Reference]" = field(default_factory=list, repr=False)
    warnings: list[str] = field(default_factory=list)

    def stored(self, slices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Pictures (N, H, W), one for each slice, in the voxel order of the source.

        For NIfTI an array of the image's shape, to go with its affine; for DICOM (N, rows, columns) in the order of `references`.
        """
        if len(slices) != len(self.slices):
            raise ValueError(f"{len(slices)} pictures for {len(self.slices)} slices")
        if self.kind == "nifti":
            from pipeline.imaging import nifti

            return nifti.store(slices, self.image)
        if self.kind == "dicom":
            return np.stack([reference.plane.store(one) for one, reference in zip(slices, self.references, strict=True)])
        return slices


def read_volume(path: Path) -> Volume:
    """The volume in a NIfTI file, a DICOM file (single, multi-frame or enhanced), a folder with one DICOM series, or a picture file.

    Raises UserError: Unreadable for damaged files; for a folder without DICOM files or with several series of the same length, and for a
    series with several pictures in one place (echoes, time points), since that is no single volume.
    """
    if path.is_dir():
        return _from_series(path, [file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith(".")])
    kind = kind_of(path)
    if kind == "nifti":
        from pipeline.imaging import nifti

        return Volume(nifti.read(path), "nifti", image=nifti.load(path))
    if kind == "dicom":
        return _from_series(path, [path])
    return Volume(pictures.read(path), "picture")


def _from_series(path: Path, files: list[Path]) -> Volume:
    from pipeline.imaging import dicom, series

    found = series.find(files)
    if not found and len(files) == 1:
        dicom.read(files[0])  # says what is wrong with it
    if not found:
        raise UserError(f"{path}: no DICOM pictures in this folder; give a folder with one series, or a file")
    axial = [one for one in found if one.references[0].plane.axial]
    if not axial:
        raise Unreadable(f"{path}: no axial slices; convert the series to NIfTI, which is resliced here")
    chosen = axial[0]
    if len(axial) > 1 and len(axial[1].references) * 2 > len(chosen.references):
        lengths = ", ".join(str(len(one.references)) for one in axial)
        raise UserError(f"{path}: several series (of {lengths} slices); give a folder with one of them")
    if chosen.twice:
        raise UserError(
            f"{path}: several pictures in the same place at {len(chosen.twice)} positions (echoes or time points?);"
            " give a folder with one picture per position"
        )
    warnings = []
    if chosen.missing:
        places = ", ".join(f"{place:g}" for place in chosen.missing[:5]) + (", ..." if len(chosen.missing) > 5 else "")
        warnings.append(f"{len(chosen.missing)} slices are missing between the others, at {places} mm")
    if len(axial) > 1:
        warnings.append(f"only the longest of {len(axial)} series is used ({len(chosen.references)} slices)")
    slices = _slices(chosen.references)
    return Volume(slices, "dicom", references=chosen.references, warnings=warnings)


def _slices(references: "list[Reference]") -> list[Slice]:
    """The slices in their order; a file of many frames is opened once."""
    from pipeline.imaging import dicom

    frames: dict[Path, list[int]] = defaultdict(list)
    for reference in references:
        frames[reference.file].append(reference.frame)
    found = {(file, one.frame): one for file, wanted in frames.items() for one in dicom.read(file, wanted)}
    return [found[reference.file, reference.frame] for reference in references]
