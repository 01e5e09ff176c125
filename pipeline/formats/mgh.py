"""FreeSurfer's volumes: .mgz (packed by gzip) and .mgh, in any orientation."""

import gzip
import io
from pathlib import Path

import numpy as np

from pipeline import privacy
from pipeline.atomic import new_file
from pipeline.formats import packed
from pipeline.formats.slices import LIMITS, Limits, Truncated, Unreadable
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume, as_values, check_shape, nearest_axes

NAME = "MGH"
ENDINGS = (".mgz", ".mgh")
_HEADER = 284  # bytes before the voxels, all big-endian
_KINDS = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def recognises(start: bytes) -> bool:
    """Whether the version is 1, with a type of voxels that there is and four sides; the format has no mark of its own."""
    version, *sides, kind = (int.from_bytes(start[place : place + 4], "big", signed=True) for place in range(0, 24, 4))
    return len(start) >= 24 and version == 1 and kind in _KINDS and all(0 < side < 2**20 for side in sides)


def read_volume(path: Path, limits: Limits = LIMITS) -> Volume:
    """The volume. Raises Unreadable for several frames or an unusable orientation, Truncated."""
    from nibabel.freesurfer.mghformat import MGHHeader

    with packed.unpacked(path) as file:
        start = file.read(_HEADER)
        if len(start) < _HEADER:
            raise Truncated(f"{path}: the file ends within its header; copy it again")
        kind = np.dtype(_KINDS[int.from_bytes(start[20:24], "big")])
        *shape, frames = (int.from_bytes(start[place : place + 4], "big") for place in range(4, 20, 4))
        if frames > 1:
            raise Unreadable(f"{path}: {frames} volumes in one file; split it into one file each")
        check_shape(path, tuple(shape), limits)
        try:
            affine = np.asarray(MGHHeader.from_fileobj(io.BytesIO(start)).get_affine(), np.float64)
            nearest_axes(affine)
        except Exception:  # nibabel raises what it likes on damaged headers
            raise Unreadable(f"{path}: its orientation is not usable; damaged, or no MGH volume") from None
        numbers = packed.read_numbers(file, path, kind, int(np.prod(shape)), _HEADER, len(start))
    voxels, unit = as_values(numbers.reshape(shape, order="F"), path)
    told = start[28:30] == b"\0\1"
    doubt = [] if told else ["its header tells no directions; taken as coronal slices of 1 mm, as FreeSurfer takes them"]
    return Volume(voxels, affine, unit, NAME, str(path), group_key=privacy.volume_key(path), warnings=doubt)


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write int16 Hounsfield units or float32 grey values with the affine of `volume`."""
    from nibabel.freesurfer.mghformat import MGHImage

    content = MGHImage(np.ascontiguousarray(synthetic.numbers()), volume.affine).to_bytes()
    with new_file(target) as beside:
        beside.write_bytes(gzip.compress(content, mtime=0) if target.name.lower().endswith(".mgz") else content)
    return target
