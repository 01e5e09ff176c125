"""PNG, JPEG, TIFF and BMP files: 8 and 16 bits, floats, grey, RGB, palette, alpha; by pillow, and tifffile for what it does not know."""

import logging
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageOps

from pipeline import privacy
from pipeline.atomic import new_file
from pipeline.errors import UserError
from pipeline.formats.slices import MAX_PIXELS, MAX_VOXELS, Slice, Truncated, Unreadable
from pipeline.formats.synthetic import Synthetic, to_uint
from pipeline.formats.volume import Volume

NAME = "picture"
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # as pillow calls them
_STARTS = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
_KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}
ENDINGS = tuple(_KINDS)
VISIBLE = 16  # difference between colour channels, of 255, that an eye sees

# What pillow's decoders raise on damaged files, beside its own UnidentifiedImageError (an OSError).
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, EOFError, MemoryError,
           ZeroDivisionError, AssertionError, RuntimeError, NotImplementedError, struct.error, zlib.error)  # fmt: skip


def recognises(start: bytes) -> bool:
    """Whether the bytes are those of PNG, JPEG, TIFF (also BigTIFF) or BMP."""
    return start.startswith(_STARTS)


def read_slices(path: Path) -> list[Slice]:
    """Every picture of the file: one, or a slice a page for a TIFF of several. Raises Unreadable or Truncated."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pillow warns of damaged metadata and of large pictures, which is checked here
            with Image.open(path, formats=FORMATS) as image:
                pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
                if pages * image.width * image.height > MAX_VOXELS:
                    raise Unreadable(f"{path}: {pages} pages of {image.width} × {image.height} pixels are more than any head has")
                # Pages of one file are a stack of one head, so they stay together.
                key = privacy.volume_key(path) if pages > 1 else ""
                return [_slice(image, page, path, key) for page in range(pages)]
    except (FileNotFoundError, PermissionError, Unreadable):
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"{path}: more than {MAX_PIXELS / 2**20:.0f} million pixels") from None
    except _DAMAGE as error:
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path, error)
        raise _complaint(path, error) from None


def _slice(image: Image.Image, page: int, path: Path, key: str) -> Slice:
    if page:
        image.seek(page)
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{path}: {image.width} × {image.height} pixels; at most {MAX_PIXELS / 2**20:.0f} million are read")
    image.load()
    upright = ImageOps.exif_transpose(image) if image.format == "JPEG" else image
    pixels, colour = _grey(upright)
    return Slice(np.ascontiguousarray(pixels, dtype=np.float32), frame=page, group_key=key, colour=colour)


def _grey(image: Image.Image) -> tuple[np.ndarray[Any, Any], float]:
    """Grey values and the share of coloured pixels. Alpha lies over black, as in a viewer with a dark background."""
    if image.mode in ("L", "1"):
        transparent = image.info.get("transparency")
        grey = np.asarray(image.convert("L"))
        return (np.where(grey == transparent, 0, grey) if isinstance(transparent, int) else grey) / np.float32(255), 0.0
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.float32) / np.float32(65535), 0.0
    if image.mode in ("I", "F"):
        return _by_type(np.asarray(image)), 0.0
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    red, green, blue = image.convert("RGB").split()
    highest, lowest = ImageChops.lighter(ImageChops.lighter(red, green), blue), ImageChops.darker(ImageChops.darker(red, green), blue)
    if highest.tobytes() == lowest.tobytes():
        return np.asarray(red) / np.float32(255), 0.0
    coloured = np.asarray(ImageChops.subtract(highest, lowest)) > VISIBLE
    return np.asarray(image.convert("L")) / np.float32(255), float(coloured.mean())


def _by_type(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers as a share of their type's range (of 16 bits where that holds them); floats as they are."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return values / np.float32(255)
    if values.dtype.itemsize <= 2 or (values.min() >= 0 and values.max() <= 65535):
        return values.astype(np.float32) / np.float32(65535)
    return values.astype(np.float32)


def _read_tiff(path: Path, first_error: BaseException) -> list[Slice]:
    """TIFFs that pillow cannot read: 16-bit colour, rarer compressions, several bits a sample."""
    import tifffile

    tifffile.logger().setLevel(logging.CRITICAL)  # what is wrong is said by the error
    try:
        with tifffile.TiffFile(path) as file:
            slices: list[Slice] = []
            for page in file.pages:
                if int(np.prod(page.shape[:2])) > MAX_PIXELS or len(file.pages) * page.size > MAX_VOXELS:
                    raise Unreadable(f"{path}: {len(file.pages)} pages of {page.shape} pixels; no head has so many")
                values = page.asarray()
                if values.ndim == 3 and values.shape[-1] in (3, 4):
                    values = _by_type(values)
                    spread = np.ptp(values[..., :3], axis=-1)
                    pixels = values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
                    colour = float((spread > VISIBLE / 255).mean())
                elif values.ndim == 2:
                    pixels, colour = _by_type(values), 0.0
                else:
                    raise Unreadable(f"{path}: page of shape {values.shape}; expected grey, RGB or RGBA")
                key = privacy.volume_key(path) if len(file.pages) > 1 else ""
                slices.append(Slice(np.ascontiguousarray(pixels, dtype=np.float32), frame=len(slices), group_key=key, colour=colour))
            return slices
    except Unreadable:
        raise
    except Exception as error:  # tifffile and its codecs raise what they like on damaged files
        raise _complaint(path, first_error) from error


def _complaint(path: Path, error: BaseException) -> Unreadable:
    """The error that says what is wrong with the file."""
    said = str(error)
    if path.stat().st_size == 0:
        return Unreadable(f"{path}: an empty file")
    if "truncated" in said.lower() or isinstance(error, EOFError) or "not enough" in said.lower():
        return Truncated(f"{path}: the picture ends too early ({said}); copy it again")
    if isinstance(error, Image.UnidentifiedImageError):
        return Unreadable(f"{path}: no {', '.join(FORMATS)} picture, whatever its name says")
    return Unreadable(f"{path}: damaged picture ({type(error).__name__}: {said})")


def read_volume(path: Path) -> Volume:
    """The pages of the file as a volume. Raises Unreadable or Truncated."""
    return Volume(read_slices(path), NAME, calibrated=False)


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write the pictures with as many bits as `source` has, in the kind of file that the name of `target` says; gives the path written."""
    place = target / source.name if target.is_dir() else target
    if not place.name.lower().endswith(ENDINGS):
        raise UserError(f"{place}: the result is a picture; name a file that ends in {', '.join(ENDINGS)}")
    kind = _KINDS[place.suffix.lower()]
    if len(volume.slices) > 1 and kind != "TIFF":
        raise UserError(f"{place}: {len(volume.slices)} pages need a .tif file")
    bits = _bits(source) if kind in ("PNG", "TIFF") else 8
    pages = [Image.fromarray(to_uint(image, bits)) for image in synthetic.images]
    options: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {}
    if len(pages) > 1:
        options |= {"save_all": True, "append_images": pages[1:]}
    with new_file(place) as beside:
        pages[0].save(beside, kind, **options)
    return place


def _bits(source: Path) -> int:
    with Image.open(source) as image:
        return 16 if image.mode.startswith("I") or image.mode == "F" else 8
