"""NIfTI-1 and NIfTI-2, one file (.nii, .nii.gz) or two (.hdr with .img), and Analyze 7.5, in any orientation.

nibabel knows the headers. The voxels are read here, by what the bytes are: nibabel goes by names and would take another file's voxels.
"""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import privacy
from pipeline.atomic import new_file, scratch_folder
from pipeline.formats import packed
from pipeline.formats.silence import silent
from pipeline.formats.slices import LIMITS, Limits, Truncated, Unit, Unreadable
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume, as_values, check_shape, nearest_axes

NAME = "NIfTI"
ENDINGS = (".nii.gz", ".nii", ".hdr", ".img")
_SIZES = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}  # type: ignore[arg-type]
_GEOMETRY = (
    "pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_SINGLE, _PAIR = (b"n+1\0", b"n+2\0"), (b"ni1\0", b"ni2\0")


def recognises(start: bytes) -> bool:
    """Whether the first number is the size of an Analyze, NIfTI-1 or NIfTI-2 header, in either byte order."""
    return start[:4] in _SIZES


def header_beside(path: Path) -> Path | None:
    """The header that `path` holds the voxels of: the .hdr file of the same name, where there is one."""
    stem = _stem(path)
    if stem is None or not path.name.lower().endswith((".img", ".img.gz")):
        return None
    return next((file for file in _beside(path, stem, (".hdr", ".hdr.gz")) if _describes_another(file)), None)


def data_beside(path: Path) -> list[Path]:
    """The files that hold the voxels of the header `path`: the .img file of the same name."""
    stem = _stem(path)
    return [] if stem is None or not _describes_another(path) else _beside(path, stem, (".img", ".img.gz"))[:1]


def read_volume(path: Path, limits: Limits = LIMITS) -> Volume:
    """The volume, with its nibabel header as origin. What is no number becomes the lowest number.

    Raises Unreadable for what is no volume of three dimensions or has no usable orientation, Truncated.
    """
    with packed.unpacked(path) as file:
        start = file.read(4)
        start += file.read(max(_size(start), 4) - 4)
        header, single = _header(start, path)
        shape, kind, affine = _geometry(header, path, limits)
        doubt = _doubt_orientation(header)
        count = int(np.prod(shape))
        offset, slope, inter = _layout(header, path)
        if single:
            numbers = packed.read_numbers(file, path, kind, count, max(offset, len(start) + 4), len(start))
    if not single:
        beside = data_beside(path)
        if not beside:
            raise Unreadable(f"{path}: only a header; its voxels should lie beside it, in a file of the same name that ends in .img")
        with packed.unpacked(beside[0]) as file:
            numbers = packed.read_numbers(file, beside[0], kind, count, offset, 0)
    values, unit = _scaled(numbers, slope, inter, path)
    return Volume(
        values.reshape(shape, order="F"),
        affine,
        unit,
        NAME,
        str(path),
        group_key=privacy.volume_key(path),
        origin=header,
        warnings=[doubt] if doubt else [],
    )


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write int16 Hounsfield units or float32 grey values with the affine (and header, where it is NIfTI's) of `volume`."""
    import nibabel

    numbers = synthetic.numbers()
    original = volume.origin if volume.format == NAME else None
    two = isinstance(original, nibabel.Nifti2Header)
    single = target.name.lower().endswith((".nii", ".nii.gz"))
    single_kind, pair_kind = (nibabel.Nifti2Image, nibabel.Nifti2Pair) if two else (nibabel.Nifti1Image, nibabel.Nifti1Pair)
    kind = single_kind if single else pair_kind
    header = kind.header_class()
    for name in _GEOMETRY:  # nothing else: a header has fields for notes and names, which may be those of persons
        if original is not None and name in original.keys():  # noqa: SIM118  # nibabel's headers know no other way to ask
            header[name] = original[name]
    header["descrip"] = f"SYNTHETIC, not for diagnosis; {synthetic.label}".encode("ascii", "replace")[:79]
    header.set_data_shape(numbers.shape)
    header.set_data_dtype(numbers.dtype)
    header.set_slope_inter(1, 0)
    if original is None:
        header.set_xyzt_units("mm")
    image: Any = kind(numbers, volume.affine, header)
    target.parent.mkdir(parents=True, exist_ok=True)
    if single:
        content = image.to_bytes()
        with new_file(target) as beside:  # no time in the compressed file's header, so that the same input gives the same bytes
            beside.write_bytes(gzip.compress(content, mtime=0) if target.name.lower().endswith(".gz") else content)
        return target
    with scratch_folder(target.parent, target.name) as folder:
        nibabel.save(image, folder / f"{target.stem}.hdr")
        for ending in (".img", ".hdr"):  # the header last: with it the volume is there
            (folder / f"{target.stem}{ending}").replace(target.with_suffix(ending))
    return target


def _describes_another(path: Path) -> bool:
    """Whether a file is a header whose voxels lie in another file, whatever its name."""
    try:
        start = packed.read_start(path, 348)
    except Unreadable:
        return False
    return recognises(start) and (start[4:8] if _size(start) == 540 else start[344:348]) not in _SINGLE


def _size(start: bytes) -> int:
    """Bytes of the header: 540 for NIfTI-2, 348 for all others."""
    return 540 if 540 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")) else 348


def _header(start: bytes, path: Path) -> tuple[Any, bool]:
    """nibabel's header, and whether the voxels are in the same file."""
    import nibabel

    two = _size(start) == 540
    magic = start[4:8] if two else start[344:348]
    kinds: dict[tuple[bool, bool], Any] = {
        (False, True): nibabel.Nifti1Header,
        (True, True): nibabel.Nifti2Header,
        (False, False): nibabel.nifti1.Nifti1PairHeader,
        (True, False): nibabel.nifti2.Nifti2PairHeader,
    }
    single = magic in _SINGLE
    kind = kinds[two, single] if single or magic in _PAIR else nibabel.Spm2AnalyzeHeader
    if len(start) < _size(start):
        raise Truncated(f"{path}: the file ends within its header; copy it again")
    if two and not (single or magic in _PAIR):
        raise Unreadable(f"{path}: no NIfTI volume, or damaged")
    try:
        with silent("nibabel.global"):
            _check_voxel_size(kind(start, check=False), path)
            return kind.from_fileobj(io.BytesIO(start)), single
    except Unreadable:
        raise
    except Exception:  # nibabel raises what it likes on damaged headers
        raise Unreadable(f"{path}: no NIfTI volume, or damaged") from None


def _doubt_orientation(header: Any) -> str:
    """What is to be said where a header does not tell left from right, or tells it in two ways."""
    if not hasattr(header, "get_sform"):
        return "an Analyze header does not tell left from right; taken as stored right to left"
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        return "its header tells no directions (sform and qform are 0); taken as stored right to left, back to front and foot to head"
    try:
        contradict = min(codes) > 0 and nearest_axes(header.get_sform()) != nearest_axes(header.get_qform())
    except ValueError:  # only one of them can be read
        contradict = False
    return "its header tells directions twice and not alike; those of sform were taken, not those of qform" if contradict else ""


def _check_voxel_size(header: Any, path: Path) -> None:
    """Raises Unreadable where neither sform nor pixdim tells the size of a voxel. `header` as stored: nibabel takes 1 mm for 0."""
    sides, sizes = header["dim"][1:4], header["pixdim"][1:4]
    told = "sform_code" in header.keys() and header["sform_code"] > 0  # noqa: SIM118  # as in `write`
    if not told and any(side > 1 and not abs(size) > 0 for side, size in zip(sides, sizes, strict=True)):
        raise Unreadable(f"{path}: its header does not tell the size of a voxel (pixdim); set it with your converter")


def _layout(header: Any, path: Path) -> tuple[int, float | None, float | None]:
    """Where the voxels begin, and the slope and intercept that scale them; None where the header has none."""
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, inter = header.get_slope_inter() if hasattr(header, "get_slope_inter") else (None, None)
        return int(header.get_data_offset()), slope, inter
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise Unreadable(f"{path}: a header with numbers that cannot be ({error}); write the file anew") from None


def _geometry(header: Any, path: Path, limits: Limits) -> tuple[tuple[int, int, int], np.dtype, NDArray[np.float64]]:
    """Shape (I, J, K), type of the numbers, affine; checked before anything is unpacked."""
    try:
        with silent("nibabel.global"):
            shape, kind = tuple(int(side) for side in header.get_data_shape()), header.get_data_dtype()
            affine = np.asarray(header.get_best_affine(), np.float64)
    except Exception:  # as above: a damaged header, said in one line
        raise Unreadable(f"{path}: no NIfTI volume, or damaged") from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise Unreadable(f"{path}: {len(shape)} dimensions ({' × '.join(map(str, shape))}); split it into volumes of three, one file each")
    if len(shape) < 2 or min(shape) < 1:
        raise Unreadable(f"{path}: no volume (shape {shape})")
    if kind.kind not in "iuf":
        raise Unreadable(f"{path}: voxels of type {kind}; expected one number each")
    columns, rows, slices = (*shape, 1)[:3]
    check_shape(path, (columns, rows, slices), limits)
    try:
        nearest_axes(affine)
    except ValueError:
        raise Unreadable(f"{path}: its orientation (affine) is not usable; set sform or qform with your converter") from None
    return (columns, rows, slices), kind, affine


def _scaled(numbers: NDArray[Any], slope: float | None, inter: float | None, path: Path) -> tuple[NDArray[np.float32], Unit]:
    """Values, scaled as the header says, and what they are: bytes without a scale are grey."""
    if slope is None or (slope == 1 and not inter):
        return as_values(numbers, path)
    with np.errstate(all="ignore"):
        return as_values((numbers * np.float64(slope) + np.float64(inter or 0)).astype(np.float32), path)


def _stem(path: Path) -> str | None:
    name = path.name
    for ending in (".hdr.gz", ".img.gz", ".hdr", ".img"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return None


def _beside(path: Path, stem: str, endings: tuple[str, ...]) -> list[Path]:
    names = {file.name: file for file in path.parent.iterdir() if file.name.startswith(stem)}
    return [file for ending in endings for name, file in sorted(names.items()) if name[len(stem) :].lower() == ending]
