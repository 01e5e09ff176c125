"""NIfTI volumes (.nii, .nii.gz) in any orientation as axial slices from foot to head, seen as radiologists see them.

nibabel turns the volume to the nearest RAS+ axes (right, anterior, superior growing); a slice then shows the patient's front at the top
and the patient's right at the left. Oblique volumes are not resampled: a slice is the nearest plane of stored voxels.
"""

import contextlib
import gzip
import logging
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import privacy
from pipeline.atomic import new_file
from pipeline.errors import UserError
from pipeline.formats.slices import MAX_PIXELS, MAX_VOXELS, NotAxial, Slice, Truncated, Unreadable
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume

NAME = "NIfTI"
ENDINGS = (".nii.gz", ".nii")
MAX_RATIO = 1032  # what gzip can pack at best (RFC 1951); a header that claims more voxels than that is wrong
MAX_ANISOTROPY = 3.0  # within an axial slice; more means thick sagittal or coronal slices, of which an axial view shows little
HOUNSFIELD_BELOW = -300.0  # no MR intensity is this low; a hundredth of the voxels being so means air in Hounsfield units
_SIZES = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}  # type: ignore[arg-type]
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


def recognises(start: bytes) -> bool:
    """Whether the first number is the size of a NIfTI-1 or NIfTI-2 header, in either byte order."""
    return start[:4] in _SIZES


def read_slices(path: Path) -> list[Slice]:
    """Every axial slice from foot to head. Raises Unreadable, Truncated, or NotAxial for volumes of thick sagittal or coronal slices."""
    import nibabel
    from nibabel.orientations import inv_ornt_aff

    image = load(path)
    values = _values(image, path)
    turned = np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(values, image.affine)).dataobj)
    affine = image.affine @ inv_ornt_aff(_turn(image), values.shape)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = (float(sizes[1]), float(sizes[0]))
    if turned.shape[2] > 1 and max(spacing) > MAX_ANISOTROPY * min(spacing):
        raise NotAxial(f"{path}: voxels of {spacing[0]:.1f} × {spacing[1]:.1f} mm within an axial slice; resample the volume first")
    in_units = bool((values < HOUNSFIELD_BELOW).mean() > 0.01)
    if image.get_data_dtype() == np.uint8 and not in_units:
        turned = turned / np.float32(255)
    key = privacy.volume_key(path)
    return [
        Slice(
            np.ascontiguousarray(show(turned[:, :, k])),
            unit="hu" if in_units else "grey",
            frame=k,
            modality="ct" if in_units else "",
            spacing=spacing,
            group_key=key,
            position=round(float(affine[2, 3] + k * affine[2, 2]), 4),
        )
        for k in range(turned.shape[2])
    ]


def load(path: Path) -> Any:
    """The nibabel image, its voxels still on the disk. Raises Unreadable for what is no NIfTI volume of three dimensions."""
    import nibabel
    from nibabel.orientations import io_orientation

    try:
        with _silent():
            # Not nibabel.load: it would also try the kinds of file that keep XML or worse inside a NIfTI.
            image = (nibabel.Nifti2Image if _header_size(path) == 540 else nibabel.Nifti1Image).from_filename(path)
            shape, kind = tuple(int(side) for side in image.shape), image.get_data_dtype()
            affine = np.asarray(image.affine, np.float64)
            usable = bool(np.isfinite(affine).all()) and not np.isnan(io_orientation(affine)).any()
    except (FileNotFoundError, PermissionError, Unreadable):
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None
    except Exception:  # nibabel raises what it likes on damaged headers
        raise Unreadable(f"{path}: no NIfTI volume, or damaged") from None
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise Unreadable(f"{path}: {len(shape)} dimensions ({' × '.join(map(str, shape))}); split it into volumes of three, one file each")
    if len(shape) < 2 or min(shape) < 1:
        raise Unreadable(f"{path}: no volume (shape {shape})")
    if kind.kind not in "iuf":
        raise Unreadable(f"{path}: voxels of type {kind}; expected one number each")
    voxels = int(np.prod(shape, dtype=np.float64))
    if voxels > MAX_VOXELS or sorted(shape)[-1] * sorted(shape)[-2] > MAX_PIXELS:
        raise Unreadable(f"{path}: {' × '.join(map(str, shape))} voxels are more than any head has")
    if voxels * kind.itemsize > path.stat().st_size * (MAX_RATIO if path.suffix.lower() == ".gz" else 1):
        raise Truncated(f"{path}: shorter than its header says; copy it again")
    if not usable:
        raise Unreadable(f"{path}: its orientation (affine) is not usable; set sform or qform with your converter")
    return image


def show(plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An axial plane (x to the right, y to the front) as rows from front to back and columns from right to left."""
    return plane[::-1, ::-1].T


def read_volume(path: Path) -> Volume:
    """The volume with its nibabel image as origin: affine, header, shape. Raises as `read_slices`."""
    image = load(path)
    return Volume(read_slices(path), NAME, origin=image, restore=lambda slices: store(slices, image))


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write int16 Hounsfield units or float32 grey values with the affine and header of `volume`; gives the path written."""
    place = target / source.name if target.is_dir() else target
    if not place.name.lower().endswith(ENDINGS):
        raise UserError(f"{place}: the result is a NIfTI volume; name a file that ends in {', '.join(ENDINGS)}")
    voxels, image = volume.stored(synthetic.images), volume.origin
    header = image.header.copy()
    header["descrip"] = f"SYNTHETIC, not for diagnosis; {synthetic.label}".encode("ascii", "replace")[:79]
    header["cal_min"] = header["cal_max"] = 0
    stored = np.rint(voxels).astype(np.int16) if synthetic.unit == "hu" else voxels.astype(np.float32)
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(1, 0)
    content = type(image)(stored, image.affine, header).to_bytes()
    with new_file(place) as beside:  # no time in the compressed file's header, so that the same input gives the same bytes
        beside.write_bytes(gzip.compress(content, mtime=0) if place.name.lower().endswith(".gz") else content)
    return place


def store(slices: np.ndarray[Any, Any], image: Any) -> np.ndarray[Any, Any]:
    """Slices (N, H, W) as `read` gave them, as an array in the voxel order of `image`, for its affine and header."""
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    turned = np.moveaxis(slices, 0, -1).transpose(1, 0, 2)[::-1, ::-1]
    back = ornt_transform(_RAS, io_orientation(image.affine))
    return np.asarray(apply_orientation(turned, back)).reshape(image.shape)


def _header_size(path: Path) -> int:
    """348 for NIfTI-1, 540 for NIfTI-2, by the first number of the file."""
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        start = file.read(4)
    return 540 if 540 in (int.from_bytes(start, "little"), int.from_bytes(start, "big")) else 348


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """nibabel tells on the standard error stream what it mends in a header."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _turn(image: Any) -> Any:
    from nibabel.orientations import io_orientation, ornt_transform

    return ornt_transform(io_orientation(image.affine), _RAS)


def _values(image: Any, path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Voxels (I, J, K), float32, scaled as the header says; what is no number becomes the lowest number."""
    try:
        with _silent(), np.errstate(all="ignore"):
            values = np.asanyarray(image.dataobj).astype(np.float32)
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError, ValueError):
        raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None
    except Exception:  # a damaged header makes nibabel and numpy raise nearly anything; all of it is said as one line
        raise Unreadable(f"{path}: damaged NIfTI volume") from None
    values = values.reshape((*values.shape, 1)[:3])
    known = np.isfinite(values)
    if not known.all():
        if not known.any():
            raise Unreadable(f"{path}: no voxel holds a number")
        values = np.where(known, values, values[known].min())
    return values
