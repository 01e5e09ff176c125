"""Picture files: every mode of PNG, JPEG and TIFF gives the grey values that a viewer shows."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.formats import pictures, table
from pipeline.formats.slices import Limits, Slice, Unreadable

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def read(path: Path) -> Slice:
    (one,) = table.read_slices(path)
    assert one.pixels.dtype == np.float32
    assert one.pixels.ndim == 2
    return one


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_8_bit_grey_is_exact(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a{suffix}")
    one = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(one.pixels, RAMP / np.float32(255))
    assert (one.unit, one.modality, one.colour, one.spacing) == ("grey", "", 0, None)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_exact(suffix: str, tmp_path: Path) -> None:
    values = RAMP.astype(np.uint16) * np.uint16(257) - np.uint16(3) * (RAMP > 9)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").pixels, values / np.float32(65535))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_stored_as_rgb_is_exact_and_not_coloured(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RAMP] * 3)).save(tmp_path / f"a{suffix}")
    one = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(one.pixels, RAMP / np.float32(255))
    assert one.colour == 0


def test_colours_are_counted_and_become_luminance(tmp_path: Path) -> None:
    colours = np.dstack([RAMP] * 3)
    colours[:4] = (255, 0, 0)
    Image.fromarray(colours).save(tmp_path / "a.png")
    one = read(tmp_path / "a.png")
    assert one.colour == 0.25
    np.testing.assert_allclose(one.pixels[0], 76 / 255, atol=1e-6)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    for name, picture in (("grey", smooth), ("rgb", np.dstack([smooth] * 3))):
        Image.fromarray(picture).save(tmp_path / f"{name}.jpg", quality=95)
        one = read(tmp_path / f"{name}.jpg")
        np.testing.assert_allclose(one.pixels, smooth / 255, atol=0.02)
        assert one.colour == 0


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "a.jpg")
    assert read(tmp_path / "a.jpg").pixels.max() < 0.1


def test_palette_and_one_bit(tmp_path: Path) -> None:
    Image.fromarray(RAMP).convert("P").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, RAMP / np.float32(255))
    Image.fromarray(RAMP > 99).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "b.png").pixels, (RAMP > 99).astype(np.float32))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_lies_over_black(mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((4, 4), 200, np.uint8)).convert(mode)
    picture.putalpha(Image.fromarray(np.diag([255, 255, 0, 0]).astype(np.uint8)))
    picture.save(tmp_path / "a.png")
    np.testing.assert_allclose(read(tmp_path / "a.png").pixels, np.diag([200, 200, 0, 0]) / 255, atol=1e-6)


def test_a_transparent_grey_is_black(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png", transparency=255)
    assert read(tmp_path / "a.png").pixels.max() == np.float32(254 / 255)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiff_kinds_and_compressions(kind: type, compression: str | None, tmp_path: Path) -> None:
    values = (RAMP / 255).astype(kind) if kind is np.float32 else RAMP.astype(kind)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    expected = values if kind is np.float32 else values / np.float32(255)  # 8-bit values in 16 bits are what they are
    np.testing.assert_allclose(read(tmp_path / "a.tif").pixels, expected, rtol=1e-6)


def test_16_bit_colour_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([RAMP.astype(np.uint16) * 257] * 3), photometric="rgb")
    one = read(tmp_path / "a.tif")
    np.testing.assert_allclose(one.pixels, RAMP / 255, atol=1e-5)
    assert one.colour == 0


def test_colours_that_lie_apart_in_a_tiff_are_those_of_one_picture(tmp_path: Path) -> None:
    """Pillow gives stripes for them."""
    picture = np.stack([RAMP.astype(np.uint16) * 257] * 3)
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read(tmp_path / "a.tif").pixels, RAMP / 255, atol=1e-5)


def test_signed_bytes_keep_their_sign(tmp_path: Path) -> None:
    """Pillow takes -1 for 255. As grey they would be a picture of other things."""
    tifffile.imwrite(tmp_path / "a.tif", (RAMP.astype(np.int16) - 128).astype(np.int8))
    np.testing.assert_array_equal(pictures.read_slices(tmp_path / "a.tif")[0].pixels, RAMP.astype(np.float32) - 128)


def test_pages_of_a_tiff_are_frames(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RAMP, 255 - RAMP]), photometric="minisblack")
    slices = table.read_slices(tmp_path / "a.tif")
    assert [one.frame for one in slices] == [0, 1]
    np.testing.assert_array_equal(table.read_slices(tmp_path / "a.tif")[1].pixels, (255 - RAMP) / np.float32(255))
    assert len({one.group_key for one in slices}) == 1


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_photograph_lying_on_its_side_is_turned_as_its_camera_says(suffix: str, tmp_path: Path) -> None:
    wide = Image.fromarray(RAMP.reshape(8, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(tmp_path / f"a{suffix}", exif=exif)
    np.testing.assert_allclose(read(tmp_path / f"a{suffix}").pixels, np.rot90(RAMP.reshape(8, 32), -1) / 255, atol=0.03)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(Unreadable) as caught:
        table.read_slices(path)
    assert caught.value.reason == "truncated" or suffix == ".tif"


@pytest.mark.parametrize("content", [b"", b"not a picture", b"<html></html>" * 20, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_what_is_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Unreadable, match=r"a\.png: .+"):
        table.read_slices(tmp_path / "a.png")


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read(tmp_path / "a.jpg").pixels, RAMP / np.float32(255))


def test_sizes_that_no_slice_has(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="16 × 16 pixels"):
        table.read_slices(tmp_path / "a.png", limits=Limits(pixels=100))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".png", ".jpg", ".tif", ".bmp"]))
def test_whatever_the_bytes_only_the_documented_error(data: st.DataObject, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    Image.fromarray(RAMP).save(path)
    content = bytearray(path.read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[place] = value
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        slices = table.read_slices(path)
    except Unreadable:
        return
    assert all(one.pixels.ndim == 2 and one.pixels.size for one in slices)


@pytest.mark.real
def test_the_real_slices(real_data: Path) -> None:
    for folder in ("CT", "MR"):
        files = sorted((real_data / "pairs" / folder).iterdir())
        assert len(files) == 54
        for file in files:
            np.testing.assert_array_equal(read(file).pixels, np.asarray(Image.open(file).convert("L")) / np.float32(255))


def test_a_tiff_without_pages_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\x00\x00\x00\x00\x00" + bytes(11))
    for reader in (table.read_slices, table.read_volume):
        with pytest.raises(Unreadable, match="a TIFF without pages"):
            reader(tmp_path / "a.tif", "ct")


def test_low_numbers_that_are_white_are_turned_at_any_depth(tmp_path: Path) -> None:
    for kind in (np.uint8, np.uint16, np.float64):
        tifffile.imwrite(tmp_path / "a.tif", (255 - RAMP).astype(kind), photometric="miniswhite")
        np.testing.assert_allclose(read(tmp_path / "a.tif").pixels, RAMP / 255, atol=1e-6)


@pytest.mark.parametrize("kind", ["animation", "depth", "types", "complex"])
def test_several_pictures_where_one_is_expected_are_refused(kind: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.png" if kind == "animation" else "a.tif")
    if kind == "animation":
        Image.fromarray(RAMP).save(file, save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    elif kind == "depth":
        tifffile.imwrite(file, np.stack([RAMP] * 4), photometric="minisblack", tile=(4, 16, 16))
    elif kind == "types":
        with tifffile.TiffWriter(file) as pages:
            for picture in (RAMP, RAMP.astype(np.uint16) * 100):
                pages.write(picture, photometric="minisblack")
    else:
        tifffile.imwrite(file, RAMP.astype(np.complex64))
    with pytest.raises(Unreadable, match=r"pictures in one file|several planes deep|pages of 8 bits and of more|type complex64"):
        table.read_slices(file)


def test_damaged_notes_are_no_damage(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    content, notes = (tmp_path / "a.png").read_bytes(), b"Doe^Jane"
    chunk = len(notes).to_bytes(4, "big") + b"eXIf" + notes + zlib.crc32(b"eXIf" + notes).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, RAMP / np.float32(255))


STACK = np.arange(5 * 40 * 30, dtype=np.uint16).reshape(5, 40, 30)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"truncate": True}, "5 pictures by its own note, of which 1 can be found"),
        ({"truncate": True, "imagej": True, "metadata": {"axes": "ZYX"}}, "5 pictures by its own note, of which 1 can be found"),
        ({"imagej": True, "metadata": {"axes": "CYX"}}, "5 channels and 1 time points"),
        ({"ome": True, "metadata": {"axes": "CYX"}}, "5 channels and 1 time points"),
    ],
)
def test_a_tiff_whose_pages_are_not_all_or_no_stack_is_refused(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Each was read as one slice, or as a volume of five."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    for read in (table.read_slices, table.read_volume):
        with pytest.raises(Unreadable, match=said):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"bigtiff": True},
    ],
)
def test_a_stack_of_imagej_or_ome_is_read_whole(options: dict[str, Any], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    slices = pictures.read_slices(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.stack([slice_.pixels for slice_ in slices]), STACK)
