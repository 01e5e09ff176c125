"""PNG, JPEG, TIFF and BMP files: 8 and 16 bits, floats, grey, RGB, palette, alpha; by pillow, and tifffile for what it does not know."""

import json
import logging
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from pipeline import privacy
from pipeline.atomic import new_file
from pipeline.errors import UserError
from pipeline.formats.silence import silent
from pipeline.formats.slices import LIMITS, Limits, Slice, Truncated, Unit, Unreadable, check_unpacked
from pipeline.formats.synthetic import Synthetic
from pipeline.formats.volume import Volume, as_values

NAME = "picture"
VISIBLE = 16  # difference between colour channels, of 255, that an eye sees
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
ENDINGS = tuple(_KINDS)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PLANAR, _SEPARATE, _SAMPLE_FORMAT, _SIGNED = 258, 284, 2, 339, 2  # tags of TIFF, and values of the last two
_DEPTH, _NOTE, _PHOTOMETRIC, _WHITE_IS_ZERO = 32997, 270, 262, 0  # tags of TIFF, and a value of the last (PhotometricInterpretation)
_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", *_TIFF)

# What pillow's decoders raise on damaged files, beside its own UnidentifiedImageError (an OSError).
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError, MemoryError,
           ZeroDivisionError, AssertionError, RuntimeError, NotImplementedError, struct.error, zlib.error)  # fmt: skip


class _BeyondPillow(ValueError):
    """A TIFF that pillow would read wrongly, and tifffile reads right."""


def recognises(start: bytes) -> bool:
    """Whether the bytes are those of PNG, JPEG, TIFF (also BigTIFF) or BMP."""
    return start.startswith(_STARTS)


def read_slices(path: Path, limits: Limits = LIMITS) -> list[Slice]:
    """Every picture of the file: one, or a slice a page for a TIFF of several. Raises Unreadable or Truncated."""
    try:
        # An open file, since pillow 12.3 maps a named one into memory, and mixes up the pixels of a TIFF that lies on its side.
        with silent("PIL"), path.open("rb") as file, Image.open(file, formats=("PNG", "JPEG", "TIFF", "BMP")) as image:
            pages = getattr(image, "n_frames", 1)
            if pages > 1 and image.format != "TIFF":
                raise Unreadable(f"{path}: {pages} pictures in one file (an animation, say); give each as a file of its own, or a TIFF")
            limits.check(path, image.height, image.width, pages)
            # Pages of one file are a stack of one head, so they stay together.
            key = privacy.volume_key(path) if pages > 1 else ""
            _check_pages(image, pages, path, limits)
            slices = []
            for page in range(pages):
                if pages > 1:
                    image.seek(page)
                slices.append(_slice(image, page, key, path))
            if len({slice_.unit for slice_ in slices}) > 1:
                raise Unreadable(f"{path}: pages of 8 bits and of more; give them as single files")
            return slices
    except (FileNotFoundError, PermissionError, MemoryError, Unreadable):
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"{path}: more than {limits.pixels / 2**20:.0f} million pixels") from None
    except _DAMAGE as error:
        with path.open("rb") as file:
            if file.read(4) in _TIFF:
                return _read_tiff(path, error, limits)
        raise _complaint(path, error) from None


def _check_pages(image: Image.Image, pages: int, path: Path, limits: Limits) -> None:
    """Raises Unreadable where the pages, by their headers, are too large or too many, and _BeyondPillow."""
    pixels = 0
    note, numbers = str(getattr(image, "tag_v2", {}).get(_NOTE, "")), image.width * image.height * len(image.getbands())
    for page in range(pages):
        if page:
            image.seek(page)
        limits.check(path, image.height, image.width, 1)
        tags = getattr(image, "tag_v2", {})
        bits, signed = max(tags.get(_BITS, (1,))), max(tags.get(_SAMPLE_FORMAT, (1,))) == _SIGNED
        if (bits > 8 and tags.get(_PLANAR) == _SEPARATE) or (bits == 8 and signed):
            raise _BeyondPillow("pillow mixes up separate colours of more than 8 bits, and takes signed bytes for others")
        if tags.get(_DEPTH, 1) != 1:
            raise Unreadable(f"{path}: pages that are several planes deep; give each plane a page of its own")
        pixels += image.width * image.height
        if pixels > limits.voxels:
            raise Unreadable(f"{path}: pages of more than {limits.voxels / 2**20:.0f} million pixels in all")
        check_unpacked(path, pixels)
    _check_note(note, pages, numbers, path)


def _check_note(note: str, pages: int, numbers: int, path: Path) -> None:
    """Raises Unreadable where the note in a TIFF says that its pages are no stack of slices, or not all of it.

    ImageJ and tifffile may store a stack as one page with all planes behind it; ImageJ and OME store channels and time points as pages.
    `numbers`: of one page.
    """
    told = {}
    if note.startswith("ImageJ="):
        told = {name: int(value) for name, value in re.findall(r"^(images|channels|frames|slices)=(\d+)$", note, re.MULTILINE)}
    elif "<OME" in note:
        sizes = {name: int(value) for name, value in re.findall(r'\b(Size[CTZ]|SamplesPerPixel)="(\d+)"', note)}
        told = {"channels": sizes.get("SizeC", 1) // (sizes.get("SamplesPerPixel") or 1), "frames": sizes.get("SizeT", 1)}
        told["slices"] = sizes.get("SizeZ", 1)
    channels, frames, slices = (told.get(name, 1) for name in ("channels", "frames", "slices"))
    if channels > 1 or (frames > 1 and slices > 1):  # without slices, a stack may have been called frames
        raise Unreadable(f"{path}: {channels} channels and {frames} time points in one stack; split it into files of one each")
    planes = told.get("images", 1)
    if note.startswith('{"shape":'):
        try:
            planes = math.prod(json.loads(note)["shape"]) // numbers
        except (ValueError, TypeError, ZeroDivisionError):
            planes = 1
    if planes > pages:
        raise Unreadable(f"{path}: {planes} pictures by its own note, of which {pages} can be found; save it with a page for each")


def _slice(image: Image.Image, page: int, key: str, path: Path) -> Slice:
    image.load()
    pixels, unit, colour = _grey(_upright(image), path)
    if unit == "raw" and image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        pixels = _inverted(pixels, unit)  # pillow does so for 8 bits only
    return Slice(np.ascontiguousarray(pixels, dtype=np.float32), unit=unit, frame=page, group_key=key, colour=colour)


def _upright(image: Image.Image) -> Image.Image:
    """A picture turned as its notes (EXIF) say; as it is where they are damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:
        return image


def _grey(image: Image.Image, path: Path) -> tuple[NDArray[Any], Unit, float]:
    """Values, what they are ("grey" for 8 bits, "raw" for more), and the share of coloured pixels.

    Alpha lies over black, as in a viewer with a dark background.
    """
    if image.mode in ("L", "1"):
        transparent = image.info.get("transparency")
        grey = np.asarray(image.convert("L"))
        return (np.where(grey == transparent, 0, grey) if isinstance(transparent, int) else grey) / np.float32(255), "grey", 0.0
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return *as_values(np.asarray(image), path), 0.0
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    red, green, blue = image.convert("RGB").split()
    highest, lowest = ImageChops.lighter(ImageChops.lighter(red, green), blue), ImageChops.darker(ImageChops.darker(red, green), blue)
    if highest.tobytes() == lowest.tobytes():
        return np.asarray(red) / np.float32(255), "grey", 0.0
    coloured = np.asarray(ImageChops.subtract(highest, lowest)) > VISIBLE
    return np.asarray(image.convert("L")) / np.float32(255), "grey", float(coloured.mean())


def as_grey(colours: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.float32], float]:
    """Grey in 0..1 of (rows, columns, 3) whole numbers of red, green and blue, and the share of coloured pixels."""
    shares = colours / np.float32(np.iinfo(colours.dtype).max)
    return np.asarray(shares @ LUMINANCE, np.float32), float((np.ptp(shares, axis=-1) > VISIBLE / 255).mean())


def _inverted(pixels: NDArray[Any], unit: Unit) -> NDArray[Any]:
    """A picture whose lowest numbers are white."""
    return np.asarray(1 - pixels if unit == "grey" else pixels.max() + pixels.min() - pixels)


def _read_tiff(path: Path, first_error: BaseException, limits: Limits) -> list[Slice]:
    """TIFFs that pillow cannot read: 16-bit colour, 64-bit floats, rarer compressions, several bits a sample."""
    import tifffile

    tifffile.logger().setLevel(logging.CRITICAL)  # what is wrong is said by the error
    try:
        with tifffile.TiffFile(path) as file:
            for page in file.pages:
                limits.check(path, page.shape[0], page.shape[1], len(file.pages))
            check_unpacked(path, sum(page.size for page in file.pages))
            if file.pages:
                _check_note(file.pages.first.description, len(file.pages), file.pages.first.size, path)
            slices: list[Slice] = []
            for page in file.pages:
                values = page.asarray()
                if values.ndim == 3 and getattr(page.keyframe, "planarconfig", None) == _SEPARATE:
                    values = np.moveaxis(values, 0, -1)
                colour = 0.0
                unit: Unit
                if values.ndim == 3 and values.shape[-1] in (3, 4) and values.dtype.kind == "u":
                    (values, colour), unit = as_grey(values[..., :3]), "grey"
                elif values.ndim == 2 and values.dtype.kind in "biuf":
                    values, unit = as_values(values, path)
                    values = _inverted(values, unit) if getattr(page.keyframe, "photometric", None) == _WHITE_IS_ZERO else values
                else:
                    raise Unreadable(f"{path}: page of shape {values.shape} and type {values.dtype}; expected grey, RGB or RGBA")
                key = privacy.volume_key(path) if len(file.pages) > 1 else ""
                pixels = np.ascontiguousarray(values, dtype=np.float32)
                slices.append(Slice(pixels, unit=unit, frame=len(slices), group_key=key, colour=colour))
            if not slices:
                raise Unreadable(f"{path}: a TIFF without pages")
            return slices
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # tifffile and its codecs raise what they like on damaged files
        raise _complaint(path, first_error) from error


def read_volume(path: Path, limits: Limits = LIMITS) -> Volume:
    """The pages of the file as a volume without millimetres. Raises Unreadable, also for pages of different sizes, or Truncated."""
    slices = read_slices(path, limits)
    sizes = {slice_.pixels.shape for slice_ in slices}
    if len(sizes) > 1:
        listed = ", ".join(f"{width} × {height}" for height, width in sorted(sizes))
        raise Unreadable(f"{path}: pages of different sizes ({listed}); give them as single files")
    voxels = np.stack([slice_.pixels for slice_ in slices]).transpose(2, 1, 0)
    bits = 8 if slices[0].unit == "grey" else 16
    colours = tuple(slice_.colour for slice_ in slices)
    return Volume(voxels, None, slices[0].unit, NAME, str(path), group_key=slices[0].group_key, colours=colours, origin=bits)


def check_target(volume: Volume, source: Path, target: Path) -> None:
    """Raises UserError for several pages in a kind of file that holds one."""
    pages = volume.voxels.shape[2]
    if pages > 1 and _KINDS[target.suffix.lower()] != "TIFF":
        raise UserError(f"{target}: {pages} pages need a .tif file")


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write the pictures with as many bits as `source` has, in the kind of file that the name of `target` says; gives the path written."""
    kind = _KINDS[target.suffix.lower()]
    images = synthetic.images()
    bits = volume.origin if kind in ("PNG", "TIFF") else 8
    pages = [Image.fromarray(to_uint(image, bits)) for image in images]
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if len(pages) > 1:
        options |= {"save_all": True, "append_images": pages[1:]}
    with new_file(target) as beside:
        pages[0].save(beside, kind, **options)
    return target


def to_uint(image01: NDArray[np.float32], bits: int = 8) -> NDArray[Any]:
    """Grey values in 0..1 as integers of 8 or 16 bits."""
    return np.rint(np.clip(image01, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def _complaint(path: Path, error: BaseException) -> Unreadable:
    """The error that says what is wrong with the file."""
    said = str(error)
    if path.stat().st_size == 0:
        return Unreadable(f"{path}: an empty file")
    if "truncated" in said.lower() or isinstance(error, EOFError) or "not enough" in said.lower():
        return Truncated(f"{path}: the picture ends too early ({said}); copy it again")
    if isinstance(error, Image.UnidentifiedImageError):
        return Unreadable(f"{path}: no {', '.join(dict.fromkeys(_KINDS.values()))} picture, whatever its name says")
    return Unreadable(f"{path}: damaged picture ({type(error).__name__})")  # what pillow says may quote notes in the file
