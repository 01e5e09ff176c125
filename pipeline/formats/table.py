"""Every format that is read and written. A new format is one file like mgh.py and one line in FORMATS.

What a file is follows from its bytes, never from its name. A format imports its library (pydicom, nibabel, ...) with the first file that
needs it, so that a stage which only sees pictures starts half a second sooner.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from pipeline.errors import UserError
from pipeline.folders import walk
from pipeline.formats import dicom, itk, mgh, nifti, packed, pictures, values
from pipeline.formats.slices import LIMITS, Limits, Slice, Unreadable
from pipeline.formats.synthetic import Synthetic, check_name
from pipeline.formats.values import CtValues
from pipeline.formats.volume import Volume

VOXELS = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")  # endings of files that only hold voxels
HEADERS = (".hdr", ".hdr.gz", ".mhd", ".nhdr")  # endings of files whose voxels lie in another one


class Format(Protocol):
    """What a format's module offers. It may also have `read_slices(path, limits)`, where the slices of a file need not make one volume,
    `check_target(volume, source, target)`, which raises UserError where it cannot write so, and, where voxels lie beside their header,
    `header_beside(data)` and `data_beside(header)`."""

    NAME: str  # for people
    ENDINGS: tuple[str, ...]  # of the names of its files, lower case; the first is that of a new file

    @staticmethod
    def recognises(start: bytes) -> bool:
        """Whether a file that starts with these bytes, unpacked where gzip packed them, is of this format."""

    @staticmethod
    def read_volume(path: Path, limits: Limits) -> Volume:
        """The volume in a file, checked against `limits` before it is unpacked. Raises Unreadable."""

    @staticmethod
    def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
        """Write `synthetic` in the geometry of `volume`, which was read from `source`; gives the path written."""


# The first that recognises a file reads it. DICOM first: the 128 bytes before its mark may be the start of a TIFF (PS3.10, 7.1).
FORMATS = cast(tuple[Format, ...], (dicom, nifti, itk, pictures, mgh))
VOLUMES = cast(tuple[Format, ...], (nifti, itk, mgh))  # hold any volume that has an affine
PACKED = (nifti, mgh)  # are read as they are where gzip packed them
KNOWN = "PNG, JPEG, TIFF, BMP, DICOM, NIfTI, Analyze, MetaImage, NRRD or MGH"


@dataclass(frozen=True)
class Contents:
    """What lies in a folder: `inputs`, each a file or the folder itself with one DICOM series, and why other files were `set_aside`."""

    inputs: list[Path] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


def recognise(path: Path) -> Format:
    """The format of a file. Raises Unreadable for an empty file, for one of zeros, and for what is none of the known formats."""
    if not path.is_file():
        what = "no plain file" if path.exists() else "a link that leads nowhere" if path.is_symlink() else "not found"
        raise Unreadable(f"{path}: {what}")
    start = packed.read_start(path, dicom.START)
    if not start:
        raise Unreadable(f"{path}: an empty file")
    for format_ in FORMATS:
        if format_.recognises(start):
            if format_ not in PACKED and packed.is_packed(path):
                raise Unreadable(f"{path}: a {format_.NAME} file packed by gzip; unpack it")
            return format_
    if archive := packed.name_archive(start):
        raise Unreadable(f"{path}: packed by {archive}; unpack it, and give what is in it")
    if not any(start):
        raise Unreadable(f"{path}: starts with zeros only, as a file whose copying was cut off; copy it again")
    raise Unreadable(f"{path}: no {KNOWN} file, by its first bytes")


def read_slices(path: Path, modality: str = "", limits: Limits = LIMITS) -> list[Slice]:
    """Every slice of the file: in stored order for single DICOM files and TIFF pages, from foot to head for volumes.

    The first file of a DICOM series stands for all of it (see `is_part`). `modality` is what the file should show ("ct", "mr"), where it
    does not say.
    Raises Unreadable, a UserError with a `reason` (Truncated, NotAxial, OtherModality, UnknownValues say more).
    """
    path, format_ = _with_header(path)
    read = getattr(format_, "read_slices", None)
    if read is None or _stack(path, format_):
        return read_stack(path, modality, limits).slices
    return values.interpret_slices(read(path, limits), path, modality, picture=format_ is pictures)[0]


def read_volume(path: Path, modality: str = "", ct_values: CtValues = "auto", limits: Limits = LIMITS) -> Volume:
    """The volume in a file of any format, or in a folder with the files of one DICOM series; arguments as for `read_slices`.

    `ct_values`: what the numbers of a CT are.

    Raises UserError: Unreadable as `read_slices`; for a folder without DICOM files or with several series of the same length, and for a
    series with several pictures in one place (echoes, time points), since that is no single volume.
    """
    if path.is_dir():
        volume = _read_folder(path, limits)
    else:
        path, format_ = _with_header(path)
        volume = format_.read_volume(path, limits)
    volume.check_spacing()
    return values.interpret_volume(volume, modality, ct_values)


def read_stack(path: Path, modality: str = "", limits: Limits = LIMITS) -> Volume:
    """The volume that a file of a data folder stands for: its own, or that of the DICOM series that it is the first file of."""
    path, format_ = _with_header(path)
    files = _stack(path, format_)
    volume = dicom.read_series(path, files, limits) if files else format_.read_volume(path, limits)
    volume.check_spacing()
    return values.interpret_volume(volume, modality)


def files_of(path: Path) -> list[Path]:
    """All files of the image that `path` stands for in a data folder: header and voxels, or those of a DICOM series."""
    try:
        path, format_ = _with_header(path)
    except Unreadable:
        return [path]
    beside = format_.data_beside(path) if hasattr(format_, "data_beside") else []
    return _stack(path, format_) or [path, *beside]


def _stack(path: Path, format_: Format) -> list[Path]:
    """The DICOM files of the volume that `path` is the first file of; none where it is of no such volume."""
    if format_ is not dicom:
        return []
    from pipeline.formats import dicom_stacks

    return list(dicom_stacks.files_of(path))


def _read_folder(folder: Path, limits: Limits) -> Volume:
    """The DICOM series in a folder, or the only volume in it. Raises UserError as `read_volume`."""
    files, set_aside = _sorted_out(folder)
    series = [file for file, format_ in files if format_.NAME == dicom.NAME]
    if not series and len(files) > 1:
        raise UserError(f"{folder}: {len(files)} pictures or volumes; give one of them, or the files of one DICOM series")
    if not series and files:
        file, format_ = files[0]
        volume, what = format_.read_volume(file, limits), "not readable"
    else:
        volume, what = dicom.read_series(folder, series, limits), "no DICOM"
    others = len(files) - max(len(series), 1) + len(set_aside)
    if others:
        volume.warnings.append(f"{others} other files in the folder are {what} and were not read")
    return volume


def look_into(folder: Path) -> Contents:
    """What `read_volume` can read below `folder`: the folder itself where DICOM files lie in it, else each picture and volume."""
    files, set_aside = _sorted_out(folder)
    lines = [str(error) for error in set_aside]
    if any(format_.NAME == dicom.NAME for _, format_ in files):
        return Contents([folder], lines + [f"{file}: beside a DICOM series" for file, format_ in files if format_.NAME != dicom.NAME])
    return Contents([file for file, _ in files], lines)


def name_result(source: Path) -> str:
    """The name of what is made from the file `source`: its own, with an ending that says the format."""
    return _result_name(source, _with_header(source)[1])


def _result_name(source: Path, own: Format) -> str:
    return source.name if source.name.lower().endswith(own.ENDINGS) else _new_name(source, own).name


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write `synthetic`, which was made from `volume`, to `target`; gives the path written.

    The name of `target` says the format: that of `source`, or for volumes any that holds volumes; a folder, or a name without an
    ending: that of `source`. Raises UserError as `check_target`.
    """
    format_, path = _destination(volume, source, target)
    return format_.write(volume, synthetic, source, path)


def check_target(volume: Volume, source: Path, target: Path) -> Path:
    """The path that a translation of `volume` goes to, asked before the work. Raises UserError where it cannot be written to `target`."""
    return _destination(volume, source, target)[1]


def _destination(volume: Volume, source: Path, target: Path) -> tuple[Format, Path]:
    """The format that writes to `target`, and the path that it writes. Raises UserError."""
    format_ = own = named(volume.format)
    if target.is_dir() and not (own.NAME == dicom.NAME and source.is_dir()):
        path = target / _result_name(source, own)
    else:
        format_ = next((format_ for format_ in FORMATS if target.name.lower().endswith(format_.ENDINGS)), own)
        path = target if target.suffix or format_ is not own else _new_name(target, own)
    if format_ is not own:
        _check_conversion(volume, format_, source, target)
    if format_.NAME != dicom.NAME:
        check_name(path, format_.NAME, format_.ENDINGS)
    _check_place(path)
    if path.is_file() and source.is_file() and any(path.samefile(part) for part in files_of(source)):
        raise UserError(f"{path}: would write over what is being translated; name another place")
    if hasattr(format_, "check_target"):
        format_.check_target(volume, source, path)
    return format_, path


def _check_conversion(volume: Volume, asked: Format, source: Path, target: Path) -> None:
    """Raises UserError where `volume` cannot be written in another format than its own."""
    own = named(volume.format)
    if asked not in VOLUMES or not volume.calibrated:
        kind = "a folder" if own.NAME == dicom.NAME and source.is_dir() else f"a file that ends in {', '.join(own.ENDINGS)}"
        raise UserError(f"{target}: the result is a {own.NAME} file, not {asked.NAME}; name {kind}")
    if volume.affine is None or volume.offsets is not None:
        reason = "its place in the patient is unknown" if volume.affine is None else "its slices are unevenly spaced"
        raise UserError(f"{target}: {source} cannot be written as {asked.NAME}, since {reason}; write {own.NAME}")


def _check_place(target: Path) -> None:
    """Raises UserError where the folder that `target` is to lie in cannot be made or written into."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise UserError(f"{target}: {folder} is a file, no folder; name another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{target}: no permission to write into {folder}; name another place, or change its mode")


def named(name: str) -> Format:
    """The format called `name`. Raises KeyError for another name."""
    return {format_.NAME: format_ for format_ in FORMATS}[name]


def is_part(path: Path) -> bool:
    """Whether a file is no image of its own: the voxels that another file, its header, describes, or a later file of a DICOM series."""
    if path.name.lower().endswith(VOXELS) and _header_of(path) is not None:
        return True
    return image_of(path) != path


def image_of(path: Path) -> Path:
    """The file that stands for the DICOM series that `path` belongs to, its first; `path` itself where it is of none."""
    if not dicom.is_dicom(path):
        return path
    from pipeline.formats import dicom_stacks

    return dicom_stacks.first_of(path)


def _new_name(path: Path, format_: Format) -> Path:
    """`path` with the format's own ending where its name has none; DICOM files need none."""
    return path if format_.NAME == dicom.NAME else path.with_name(path.name + format_.ENDINGS[0])


def _with_header(path: Path) -> tuple[Path, Format]:
    """The file to read, which is its header for a file of voxels alone, and its format. Raises Unreadable."""
    return _header_of(path) or (path, recognise(path))


def _header_of(path: Path) -> tuple[Path, Format] | None:
    for format_ in FORMATS:
        beside = getattr(format_, "header_beside", None)
        header = beside(path) if beside else None
        if header is not None:
            return header, format_
    return None


def _sorted_out(folder: Path) -> tuple[list[tuple[Path, Format]], list[Unreadable]]:
    """Every file below `folder` that is of a known format, and why others are not. Voxels beside their header are part of it."""
    known: list[tuple[Path, Format]] = []
    unknown: list[tuple[Path, Unreadable]] = []
    for file in sorted(walk(folder)):
        try:
            known.append((file, recognise(file)))
        except Unreadable as error:
            unknown.append((file, error))
    parts = {part for file, format_ in known if hasattr(format_, "data_beside") for part in format_.data_beside(file)}
    return [(file, format_) for file, format_ in known if file not in parts], [error for file, error in unknown if file not in parts]
