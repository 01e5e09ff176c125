"""MetaImage and NRRD: the same geometry as ITK sees, in and out, whatever the file is called."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from pipeline.formats import table
from pipeline.formats.slices import Truncated, Unreadable
from pipeline.formats.synthetic import Label, Synthetic

VALUES = np.random.default_rng(0).integers(0, 900, (6, 5, 4)).astype(np.int16)  # z, y, x
TURN = [0.0, 0.0, 1.0, 0.6, -0.8, 0.0, 0.8, 0.6, 0.0]
LABEL = Label("mr-to-ct", "3", "abc")


def image(values: np.ndarray = VALUES) -> SimpleITK.Image:
    """An oblique volume of uneven voxels."""
    made = SimpleITK.GetImageFromArray(values)
    made.SetSpacing([0.9, 1.1, 2.5][: values.ndim])
    made.SetOrigin([10.0, -20.0, 30.0][: values.ndim])
    if values.ndim == 3:
        made.SetDirection(TURN)
    return made


def as_itk(affine: np.ndarray, index: list[float]) -> np.ndarray:
    """The place of a voxel in ITK's millimetres."""
    return (affine @ [*index, 1])[:3] * [-1, -1, 1]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_every_voxel_lies_where_itk_sees_it(ending: str, packed: bool, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / f"a{ending}"), packed)
    volume = table.read_volume(tmp_path / f"a{ending}", "mr")
    np.testing.assert_array_equal(volume.voxels, VALUES.transpose(2, 1, 0))
    for index in ([0, 0, 0], [3, 4, 5], [1, 2, 0]):
        np.testing.assert_allclose(as_itk(volume.affine, index), image().TransformIndexToPhysicalPoint(index), atol=1e-4)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr", ".nii.gz", ".mgz"])
@pytest.mark.parametrize("unit", ["hu", "grey"])
def test_what_is_written_lies_in_the_same_place(ending: str, unit: str, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "source.mha"))
    volume = table.read_volume(tmp_path / "source.mha", "mr")
    voxels = (volume.voxels - 1000 if unit == "hu" else volume.voxels / 900).astype(np.float32)
    out = table.write(volume, Synthetic(voxels, unit, LABEL, "", (40, 80)), tmp_path / "source.mha", tmp_path / f"out/b{ending}")
    again = table.read_volume(out)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-4)
    np.testing.assert_allclose(again.voxels, voxels, atol=1e-6)
    assert sorted(file.name for file in out.parent.iterdir()) == sorted(
        {".mhd": ["b.mhd", "b.zraw"], ".nhdr": ["b.nhdr", "b.raw.gz"]}.get(ending, [out.name])
    )
    if ending != ".mgz":  # which ITK does not know
        seen = SimpleITK.ReadImage(str(out))
        np.testing.assert_allclose(seen.GetSpacing(), image().GetSpacing(), atol=1e-4)
        np.testing.assert_allclose(seen.GetOrigin(), image().GetOrigin(), atol=1e-4)
        np.testing.assert_allclose(seen.GetDirection(), TURN, atol=1e-4)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_the_name_does_not_matter(ending: str, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / f"a{ending}"), True)
    (tmp_path / f"a{ending}").rename(tmp_path / "scan.png")
    np.testing.assert_array_equal(table.read_volume(tmp_path / "scan.png", "mr").voxels, VALUES.transpose(2, 1, 0))


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("place", [-2, -9, -30])
def test_packed_voxels_whose_checksum_is_wrong_are_refused(ending: str, place: int, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / f"a{ending}"), True)
    (data,) = [file for file in tmp_path.iterdir() if file.suffix in (".mha", ".nrrd", ".zraw", ".gz")]
    content = bytearray(data.read_bytes())
    content[place] ^= 0x55
    data.write_bytes(content)
    with pytest.raises(Truncated, match="copy it again"):
        table.read_volume(tmp_path / f"a{ending}", "mr")


def test_packed_voxels_far_longer_than_the_header_says_are_refused(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "a.nrrd"), True)
    head = (tmp_path / "a.nrrd").read_bytes().split(b"\n\n")[0]
    (tmp_path / "a.nrrd").write_bytes(head + b"\n\n" + gzip.compress(bytes(2**23)))
    with pytest.raises(Unreadable, match="much longer than its header says"):
        table.read_volume(tmp_path / "a.nrrd", "mr")
    (tmp_path / "a.nrrd").write_bytes(head.replace(b"gzip", b"bzip2") + b"\n\n")
    with pytest.raises(Unreadable, match="packed in a way that is not read"):
        table.read_volume(tmp_path / "a.nrrd", "mr")


def test_the_file_of_voxels_leads_to_its_header_and_is_no_input_of_its_own(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "a.mhd"))
    np.testing.assert_array_equal(table.read_volume(tmp_path / "a.raw", "mr").voxels, VALUES.transpose(2, 1, 0))
    contents = table.look_into(tmp_path)
    assert (contents.inputs, contents.set_aside) == ([tmp_path / "a.mhd"], [])


def test_a_header_may_not_point_elsewhere(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "a.mhd"))
    secret = tmp_path / "secret"
    secret.mkdir()
    (tmp_path / "a.raw").rename(secret / "a.raw")
    for place in (secret / "a.raw", "../a.raw", "secret/a.raw"):
        header = (tmp_path / "a.mhd").read_text().replace("ElementDataFile = a.raw", f"ElementDataFile = {place}")
        (tmp_path / "b.mhd").write_text(header)
        with pytest.raises(Unreadable, match="in another folder"):
            table.read_volume(tmp_path / "b.mhd")


def test_a_header_alone_is_named_as_such(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(Unreadable, match=r"only a header; its voxels should lie beside it, in a\.raw"):
        table.read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_truncated_is_one_error_and_nothing_else(ending: str, packed: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(image(np.tile(VALUES, (4, 4, 4))), str(path), packed)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Truncated, match=r"shorter than its header|ends too early"):
        table.read_volume(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_small_file_that_claims_a_huge_volume(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(image(), str(path), True)
    content = path.read_bytes().replace(b"DimSize = 4 5 6", b"DimSize = 900 900 600").replace(b"sizes: 4 5 6", b"sizes: 900 900 600")
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="no scan is packed that well"):
        table.read_volume(path)


def test_two_and_four_dimensions(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(VALUES[0]), str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(table.read_volume(tmp_path / "a.mha", "mr").voxels[:, :, 0], VALUES[0].T)
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image(), image()]), str(tmp_path / "b.nrrd"))
    with pytest.raises(Unreadable, match="4 dimensions"):
        table.read_volume(tmp_path / "b.nrrd")


def test_colours_are_no_volume(tmp_path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.Compose([image(), image()]), str(tmp_path / "a.mha"))
    with pytest.raises(Unreadable, match="one whole or floating-point number each"):
        table.read_volume(tmp_path / "a.mha")


@pytest.mark.parametrize(("ending", "line"), [(".mha", b"NDims = 3"), (".nrrd", b"dimension: 3")])
@pytest.mark.parametrize("count", [b"99999999999", b"-1e9", b"2", b""])
def test_a_header_that_contradicts_itself_is_refused_before_itk_sees_it(ending: str, line: bytes, count: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(file))
    content = file.read_bytes()
    assert line in content
    file.write_bytes(content.replace(line, line[:-1] + count))
    with pytest.raises(Unreadable, match=r"its header speaks of .* dimensions and tells 3 sides; damaged"):
        table.read_volume(file, "mr")


def test_a_nrrd_that_does_not_say_its_encoding_is_refused_before_itk_sees_it(tmp_path: Path) -> None:
    file = tmp_path / "a.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(file))
    file.write_bytes(re.sub(rb"encoding: \w+\n", b"", file.read_bytes()))
    with pytest.raises(Truncated, match="does not say how the voxels are stored"):
        table.read_volume(file, "mr")


@pytest.mark.parametrize(("ending", "told"), [(".mha", rb"ElementSpacing = .*"), (".nrrd", rb"space directions: .*")])
@pytest.mark.parametrize("size", [None, b"0 1 1", b"-1 1 1", b"nan 1 1", b"1,5 1 1", b"(0,0,0) (0,1,0) (0,0,1)", b"none (0,1,0) (0,0,1)"])
def test_a_header_that_does_not_tell_the_size_of_a_voxel_is_refused(ending: str, told: bytes, size: bytes | None, tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / f"a{ending}"))
    content = (tmp_path / f"a{ending}").read_bytes()
    line = re.search(told + rb"\n", content)
    assert line
    instead = b"" if size is None else re.split(rb"[=:]", line.group())[0] + (b"= " if ending == ".mha" else b": ") + size + b"\n"
    (tmp_path / f"a{ending}").write_bytes(content.replace(line.group(), instead))
    with pytest.raises(Unreadable, match="does not tell the size of a voxel"):
        table.read_volume(tmp_path / f"a{ending}", "mr")


@pytest.mark.parametrize(
    ("ending", "line", "instead"),
    [
        (".mha", rb"TransformMatrix = .*\n", b""),
        (".nrrd", rb"space: left-posterior-superior\n", b"space dimension: 3\n"),
        (".nrrd", rb"space: left-posterior-superior\n", b"space: scanner-xyz\n"),
    ],
)
def test_a_header_that_tells_no_directions_in_the_patient_is_said(ending: str, line: bytes, instead: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(image(), str(file))
    assert table.read_volume(file, "mr").warnings == []
    file.write_bytes(re.sub(line, instead, file.read_bytes()))
    assert any(
        said.startswith("its header tells no directions in the patient; taken as ") for said in table.read_volume(file, "mr").warnings
    )


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_every_type_that_itk_writes_is_read(kind: type, ending: str, tmp_path: Path) -> None:
    values = VALUES.clip(0, 120).astype(kind)
    SimpleITK.WriteImage(image(values), str(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(table.read_volume(tmp_path / f"a{ending}", "mr").voxels, values.transpose(2, 1, 0).astype(np.float32))


def test_a_name_in_a_header_is_not_quoted(tmp_path: Path) -> None:
    SimpleITK.WriteImage(image(), str(tmp_path / "Doe_Jane.mhd"))
    (tmp_path / "Doe_Jane.mhd").rename(tmp_path / "p-1.mhd")
    (tmp_path / "Doe_Jane.raw").unlink()
    with pytest.raises(Unreadable, match=r"in p-1\.raw or the file that it names") as refusal:
        table.read_volume(tmp_path / "p-1.mhd")
    assert "Doe" not in str(refusal.value)
