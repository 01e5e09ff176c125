"""MetaImage (.mha, .mhd with .raw) and NRRD (.nrrd, .nhdr): read and written by SimpleITK, which is imported with the first of them.

Their headers are short texts. They are read here first, so that sizes are known before anything is unpacked, and so that a header
cannot point at a file elsewhere. ITK grows to the left and back (LPS); affines here are RAS.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline import privacy
from pipeline.atomic import scratch_folder
from pipeline.formats import packed
from pipeline.formats.silence import silent_process
from pipeline.formats.slices import LIMITS, Limits, Truncated, Unreadable, check_unpacked
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume, as_values, check_shape, nearest_axes

NAME = "MetaImage or NRRD"
ENDINGS = (".mha", ".mhd", ".nrrd", ".nhdr")
_DATA = (".raw", ".zraw", ".raw.gz", ".img")  # usual names of files that hold the voxels of a header
_ENCODINGS = {"raw": "raw", "gzip": "packed", "gz": "packed", **dict.fromkeys(("ascii", "txt", "text", "hex"), "text")}  # of NRRD
_LONGEST = 2**16  # bytes of a header
_STEPS = "space directions or spacings of NRRD, ElementSpacing of MetaImage"
_UNDIRECTED = "its header tells no directions in the patient; taken as stored right to left, front to back and foot to head"
_META = re.compile(rb"\s*(ObjectType|NDims|Comment|ObjectSubType|Name|ID|ParentID|TransformType)\s*=", re.IGNORECASE)
_META_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4, "MET_LONG": 4, "MET_ULONG": 4,
    "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4, "MET_DOUBLE": 8,
}  # fmt: skip
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"), 8),
}


class Entries(NamedTuple):
    """What a header says, as it is written there; `bytes` of a voxel, None for a type that is not read, how voxels are stored, and
    whether directions in the patient are told."""

    data: str
    dimensions: str
    sides: str
    steps: str
    bytes: int | None
    stored: str
    directed: bool


@dataclass(frozen=True)
class Header:
    """What matters of a header: sides, bytes of a voxel, how voxels are stored (raw, packed, text), their file ("" for the same).

    `begin`: bytes before voxels in the same file. `directed`: whether directions in the patient are told.
    """

    nrrd: bool
    shape: tuple[int, ...]
    bytes: int
    stored: str
    data: str
    begin: int
    directed: bool


def recognises(start: bytes) -> bool:
    """Whether the text is the beginning of a NRRD or a MetaImage header."""
    return start.startswith(b"NRRD00") or _META.match(start) is not None


def header_beside(path: Path) -> Path | None:
    """The header in the same folder that names `path` as the file of its voxels, where there is one."""
    if not path.name.lower().endswith(_DATA):
        return None
    for file in sorted(path.parent.iterdir()):
        if file.name.lower().endswith((".mhd", ".nhdr")) and path in data_beside(file):
            return file
    return None


def data_beside(path: Path) -> list[Path]:
    """The file that holds the voxels of the header `path`, where it is another."""
    try:
        header = _header(path)
    except (Unreadable, OSError):
        return []
    return [_data_file(path, header.data)] if header.data else []


def read_volume(path: Path, limits: Limits = LIMITS) -> Volume:
    """The volume. Raises Unreadable for what is none of three dimensions, or whose voxels lie in several files or elsewhere; Truncated."""
    header = _header(path)
    shape = tuple(side for i, side in enumerate(header.shape) if i < 3 or side > 1)
    if len(shape) not in (2, 3):
        sides = " × ".join(map(str, header.shape))
        raise Unreadable(f"{path}: {len(shape)} dimensions ({sides}); split it into volumes of three, one file each")
    check_shape(path, (*shape, 1)[:3], limits)
    data = _data_file(path, header.data) if header.data else path
    if not data.is_file():
        ending = next((ending for ending in _DATA if data.name.lower().endswith(ending)), _DATA[0])
        raise Unreadable(
            f"{path}: only a header; its voxels should lie beside it, in {path.name[: -len(path.suffix)]}{ending} or the file that it names"
        )
    length = int(np.prod(shape)) * header.bytes
    check_unpacked(data, length // header.bytes)
    if header.stored == "packed":
        packed.check_stream(data, header.begin if data == path else 0, length)
    elif header.stored == "raw" and data.stat().st_size < length:
        raise Truncated(f"{data}: shorter than its header says; copy it again")
    numbers, affine = _decode(path, header)
    try:
        nearest_axes(affine)
    except ValueError:
        raise Unreadable(f"{path}: its directions are not usable; set them with your converter") from None
    voxels, unit = as_values(numbers, path)
    doubt = [] if header.directed else [_UNDIRECTED]
    return Volume(voxels, affine, unit, NAME, str(path), group_key=privacy.volume_key(path), warnings=doubt)


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write int16 Hounsfield units or float32 grey values with the geometry of `volume`, also a sheared one (tilted gantry), packed."""
    import SimpleITK

    assert volume.affine is not None
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / sizes
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(synthetic.numbers().transpose(2, 1, 0)))
    image.SetSpacing(sizes.tolist())
    image.SetDirection(directions.ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent, target.name) as folder:
        SimpleITK.WriteImage(image, str(folder / target.name), True)
        # The header last: with it the volume is there.
        for file in sorted(folder.iterdir(), key=lambda file: file.name == target.name):
            file.replace(target.parent / file.name)
    return target


def _header(path: Path) -> Header:
    """The header of a file. Raises Unreadable."""
    with path.open("rb") as file:
        start = file.read(_LONGEST)
    nrrd = start.startswith(b"NRRD")
    data, count, sides, steps, length, stored, directed = _read_nrrd(start, path) if nrrd else _read_meta(start, path)
    if length is None:
        raise Unreadable(f"{path}: voxels of a type that is not read; expected one whole or floating-point number each")
    if not re.fullmatch(r"\d{1,9}([ \t]+\d{1,9})*", sides):
        raise Unreadable(f"{path}: its header does not tell the sides of the volume; damaged")
    if count != str(len(sides.split())):  # SimpleITK ends with the whole process there
        raise Unreadable(f"{path}: its header speaks of {count or 'no'} dimensions and tells {len(sides.split())} sides; damaged")
    lengths = [*_lengths(steps), *[np.nan] * len(sides)]
    if any(int(side) > 1 and not 0 < step < np.inf for side, step in zip(sides.split(), lengths, strict=False)):
        raise Unreadable(f"{path}: its header does not tell the size of a voxel ({_STEPS}); expected a number above 0 for each side")
    if data and ("%" in data or data.upper().split()[0] == "LIST"):
        raise Unreadable(f"{path}: voxels in several files; write the volume into one file")
    if data and Path(data).name != data:
        raise Unreadable(f"{path}: names a file of voxels in another folder; put both into one folder, and only the name into the header")
    # Voxels begin after NRRD's empty line, or MetaImage's last line of text.
    ended = re.search(rb"\r?\n\r?\n" if nrrd else rb"(?im)^\s*ElementDataFile\s*=[^\n]*\n", start)
    return Header(nrrd, tuple(int(side) for side in sides.split()), length, stored, data, ended.end() if ended else 0, directed)


def _read_nrrd(start: bytes, path: Path) -> Entries:
    text = re.split(rb"\r?\n\r?\n", start, maxsplit=1)[0].decode("latin-1")
    fields = {name.strip().lower(): value.strip() for name, value in re.findall(r"^([^#\n:]+):(?!=)[ \t]*(.*)$", text, re.MULTILINE)}
    stored = fields.get("encoding", "raw").lower()
    if stored not in _ENCODINGS:
        raise Unreadable(f"{path}: voxels packed in a way that is not read; write the file with encoding raw or gzip")
    if "encoding" not in fields:  # SimpleITK ends with the whole process there, as above
        raise Truncated(f"{path}: its header does not say how the voxels are stored; copy it again")
    units = re.findall(r"[^\s\"]+", fields.get("space units", fields.get("spaceunits", "")))
    if any(unit not in ("mm", "millimeter", "millimetre", "???") for unit in units):
        raise Unreadable(f"{path}: its voxels are measured in {units[0][:20]}; write it in mm")
    skipped = any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip"))
    return Entries(
        fields.get("data file", fields.get("datafile", "")),
        fields.get("dimension", ""),
        fields.get("sizes", ""),
        fields.get("space directions", fields.get("spacings", "")),
        _NRRD_BYTES.get(fields.get("type", "").lower()),
        "text" if skipped else _ENCODINGS[stored],
        "space directions" in fields and re.match(r"(left|right|[LR][AP]S)", fields.get("space", ""), re.IGNORECASE) is not None,
    )


def _read_meta(start: bytes, path: Path) -> Entries:
    text = re.split(rb"(?<=[\n])(?=.*[^\x09\x0a\x0d\x20-\x7e])", start, maxsplit=1)[0].decode("latin-1")
    fields = {name.lower(): value.strip() for name, value in re.findall(r"^\s*(\w+)\s*=[ \t]*(.*)$", text, re.MULTILINE)}
    if "elementdatafile" not in fields:
        raise Truncated(f"{path}: the file ends within its header; copy it again")
    data, single = fields["elementdatafile"], fields.get("elementnumberofchannels", "1") == "1"
    return Entries(
        "" if data.upper() == "LOCAL" else data,
        fields.get("ndims", ""),
        fields.get("dimsize", ""),
        fields.get("elementspacing", fields.get("elementsize", "")),
        _META_BYTES.get(fields.get("elementtype", "").upper()) if single else None,
        "packed" if fields.get("compresseddata", "").lower() == "true" else "raw",
        not {"transformmatrix", "orientation", "rotation"}.isdisjoint(fields),
    )


def _lengths(steps: str) -> list[float]:
    """Millimetres from voxel to voxel along each side, which a header tells as numbers or as vectors; NaN for what is neither."""
    lengths = []
    for step in re.findall(r"\([^)]*\)|\S+", steps):
        try:
            parts = [float(part) for part in step.strip("()").split(",")]
        except ValueError:
            parts = [np.nan]
        lengths.append(float(np.linalg.norm(parts)) if step.startswith("(") else parts[0] if len(parts) == 1 else np.nan)
    return lengths


def _data_file(path: Path, data: str) -> Path:
    """The file that the header `path` names for its voxels; where both were renamed, the one with the header's name and that ending."""
    named, stem = path.parent / data, path.name[: -len(path.suffix)]
    ending = next((ending for ending in sorted(_DATA, key=len, reverse=True) if data.lower().endswith(ending)), None)
    renamed = path.with_name(f"{stem}{ending}") if ending else named
    return renamed if not named.is_file() and renamed.is_file() else named


def _decode(path: Path, header: Header) -> tuple[NDArray[np.generic], NDArray[np.float64]]:
    """Numbers (I, J, K) and affine, by SimpleITK, which must be shown names that it knows."""
    import SimpleITK

    endings = (".nrrd", ".nhdr") if header.nrrd else (".mha", ".mhd")
    with tempfile.TemporaryDirectory(prefix="ctmr-itk-") as folder:
        shown = Path(folder) / f"header{endings[bool(header.data)]}"
        shown.symlink_to(path.resolve())
        if header.data:
            (Path(folder) / header.data).symlink_to(_data_file(path, header.data).resolve())
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("NrrdImageIO" if header.nrrd else "MetaImageIO")
        reader.SetFileName(str(shown))
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            with silent_process():
                image = reader.Execute()
        except RuntimeError:
            raise Truncated(f"{path}: the file ends too early or is damaged; copy it again") from None
    array = SimpleITK.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        array = array[np.newaxis]
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise Unreadable(f"{path}: {array.ndim} dimensions; split it into volumes of three, one file each")
    dimension = image.GetDimension()
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(dimension, dimension)
    sides = min(dimension, 3)
    affine[:sides, :sides] = directions[:sides, :sides] * np.array(image.GetSpacing())[:sides]
    affine[:sides, 3] = np.array(image.GetOrigin())[:sides]
    return array.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
