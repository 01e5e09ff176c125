"""Bytes decide what a file is, never its name; small files cannot take the machine; nothing is skipped in silence."""

import gzip
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.errors import UserError
from pipeline.formats import table
from pipeline.formats.slices import Limits, Truncated, Unreadable
from pipeline.formats.synthetic import Label, Synthetic
from tests.formats.dicom_files import write

VALUES = np.random.default_rng(0).integers(0, 900, (8, 7, 6)).astype(np.int16)
OTHER = VALUES[::-1] + 1


def nifti(path: Path, values: np.ndarray = VALUES) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, 1, 2, 1])), path)
    return path


def one_of_each(folder: Path) -> dict[str, Path]:
    """A file of each format, by the format's usual ending."""
    volume = table.read_volume(nifti(folder / "a.nii"), "mr")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct"), "", (40, 80))
    files = {ending: folder / f"a{ending}" for ending in (".nii", ".nii.gz", ".hdr", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh")}
    for path in files.values():
        if not path.exists():
            table.write(volume, synthetic, folder / "a.nii", path)
    write(folder / "a.dcm", VALUES[..., 0])
    Image.fromarray((VALUES[..., 0] % 250).astype(np.uint8)).save(folder / "a.png")
    Image.fromarray((VALUES[..., 0] % 250).astype(np.uint8)).save(folder / "a.tif")
    return files | {ending: folder / f"a{ending}" for ending in (".dcm", ".png", ".tif")}


@pytest.mark.parametrize("name", ["scan", "scan.nii.gz", "scan.nii", "scan.png", "scan.dcm", "scan.mha", "IM000001"])
def test_a_file_is_what_its_bytes_say_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    for ending, path in one_of_each(tmp_path).items():
        if ending in (".hdr", ".mhd", ".nhdr"):  # their voxels lie beside them
            continue
        expected = table.read_volume(path, "mr")
        (tmp_path / "odd").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "odd" / name)
        found = table.read_volume(tmp_path / "odd" / name, "mr")
        assert found.format == expected.format
        np.testing.assert_array_equal(found.voxels, expected.voxels)


def test_the_other_file_of_the_same_stem_is_never_taken(tmp_path: Path) -> None:
    nifti(tmp_path / "scan.nii", OTHER)
    nifti(tmp_path / "mine.nii").rename(tmp_path / "scan")
    np.testing.assert_array_equal(table.read_volume(tmp_path / "scan", "mr").voxels, VALUES)
    np.testing.assert_array_equal(table.read_volume(tmp_path / "scan.nii", "mr").voxels, OTHER)


def test_packed_or_not_is_seen_in_the_bytes(tmp_path: Path) -> None:
    plain = nifti(tmp_path / "plain.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    for name in ("a.nii.gz", "b.nii"):
        np.testing.assert_array_equal(table.read_volume(tmp_path / name, "mr").voxels, VALUES)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mgz"])
def test_a_wrong_checksum_is_found(name: str, tmp_path: Path) -> None:
    content = bytearray(one_of_each(tmp_path)[name[1:]].read_bytes())
    content[-8] ^= 1
    (tmp_path / "b.gz").write_bytes(content)
    with pytest.raises(Truncated, match="its checksum is wrong; copy it again"):
        table.read_volume(tmp_path / "b.gz")


@pytest.mark.parametrize(("header", "data"), [("a.hdr", "a.img"), ("A.HDR", "A.IMG"), ("a.hdr", "a.img.gz")])
def test_a_header_and_its_voxels_in_two_files(header: str, data: str, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(VALUES, np.diag([-1, 1, 2, 1])), tmp_path / "x.hdr")
    (tmp_path / "x.hdr").rename(tmp_path / header)
    content = (tmp_path / "x.img").read_bytes()
    (tmp_path / "x.img").unlink()
    (tmp_path / data).write_bytes(gzip.compress(content) if data.endswith(".gz") else content)
    for name in (header, data):
        np.testing.assert_array_equal(table.read_volume(tmp_path / name, "mr").voxels, VALUES)
    contents = table.look_into(tmp_path)
    assert (contents.inputs, contents.set_aside) == ([tmp_path / header], [])


def test_whole_volumes_called_hdr_and_img_are_two(tmp_path: Path) -> None:
    for name, values in (("a.hdr", VALUES), ("a.img", OTHER)):
        nifti(tmp_path / "x.nii", values).rename(tmp_path / name)
    np.testing.assert_array_equal(table.read_volume(tmp_path / "a.hdr", "mr").voxels, VALUES)
    np.testing.assert_array_equal(table.read_volume(tmp_path / "a.img", "mr").voxels, OTHER)
    assert table.look_into(tmp_path).inputs == [tmp_path / "a.hdr", tmp_path / "a.img"]


@pytest.mark.parametrize("ending", [".dcm", ".png", ".mha", ".nrrd"])
def test_what_is_not_read_packed_says_so(ending: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(one_of_each(tmp_path)[ending].read_bytes()))
    with pytest.raises(Unreadable, match="file packed by gzip; unpack it"):
        table.read_volume(packed)


@pytest.mark.parametrize("kind", [nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage, nibabel.Spm2AnalyzeImage])
def test_analyze_is_read_with_a_warning_of_left_and_right(kind: type, tmp_path: Path) -> None:
    nibabel.save(kind(VALUES, np.diag([-1, 1, 2, 1])), tmp_path / "a.img")
    (tmp_path / "a.mat").unlink(missing_ok=True)
    volume = table.read_volume(tmp_path / "a.hdr", "mr")
    np.testing.assert_array_equal(volume.voxels, VALUES)
    assert "does not tell left from right" in volume.warnings[0]


def test_a_header_alone_says_where_its_voxels_should_be(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Pair(VALUES, np.eye(4)), tmp_path / "a.hdr")
    (tmp_path / "a.img").rename(tmp_path / "b.img")
    with pytest.raises(Unreadable, match=r"only a header; its voxels should lie beside it"):
        table.read_volume(tmp_path / "a.hdr")
    with pytest.raises(Unreadable, match="by its first bytes"):
        table.read_volume(tmp_path / "b.img")


def test_a_folder_is_listed_with_why_each_other_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    nifti(tmp_path / "a.nii")
    nifti(tmp_path / "b.nii").rename(tmp_path / "deep/b")
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(b"no volume at all" * 100))
    (tmp_path / "empty.nii").touch()
    contents = table.look_into(tmp_path)
    assert contents.inputs == [tmp_path / "a.nii", tmp_path / "deep/b"]
    assert [line.split(": ")[1].split(",")[0] for line in contents.set_aside] == ["no PNG", "an empty file"]


def test_linked_files_and_folders_are_read_and_lost_links_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    nifti(tmp_path / "elsewhere/a.nii")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/patient1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in/b.nii").symlink_to(tmp_path / "elsewhere/a.nii")
    (tmp_path / "in/c.nii").symlink_to(tmp_path / "elsewhere/gone.nii")
    (tmp_path / "elsewhere/round").symlink_to(tmp_path / "in")
    contents = table.look_into(tmp_path / "in")
    assert [file.relative_to(tmp_path / "in").as_posix() for file in contents.inputs] == ["b.nii", "patient1/a.nii"]
    assert contents.set_aside == [f"{tmp_path}/in/c.nii: a link that leads nowhere"]
    for series in ("1", "2"):
        write(tmp_path / f"elsewhere/{series}.dcm", VALUES[..., 0], float(series))
    assert table.read_volume(tmp_path / "in", "ct").voxels.shape[2] == 2


def test_a_folder_of_several_volumes_is_no_volume_and_what_lies_beside_one_is_counted(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(b"no volume")
    assert table.read_volume(tmp_path, "mr").warnings == ["1 other files in the folder are not readable and were not read"]
    nifti(tmp_path / "c.nii")
    with pytest.raises(UserError, match="2 pictures or volumes; give one of them"):
        table.read_volume(tmp_path, "mr")


def test_pictures_beside_a_dicom_series_are_named(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm", VALUES[..., 0])
    nifti(tmp_path / "a.nii")
    contents = table.look_into(tmp_path)
    assert contents.inputs == [tmp_path]
    assert contents.set_aside == [f"{tmp_path}/a.nii: beside a DICOM series"]


def bombs(folder: Path) -> dict[str, Path]:
    """Small files that claim, or unpack to, far more than any head."""
    folder.mkdir()
    files = {name: folder / name for name in ("long.nii.gz", "many.nii.gz", "many.nii", "pages.tif", "frames.dcm", "deflated.dcm", "a.mha")}
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, shape in (("long.nii.gz", (1024, 1024, 500)), ("many.nii.gz", (2, 2, 30000)), ("many.nii", (1, 1, 30000))):
        header.set_data_shape(shape)
        start = header.binaryblock + bytes(4)
        if name == "long.nii.gz":
            packer = zlib.compressobj(wbits=31)
            packed = packer.compress(start) + b"".join(packer.compress(bytes(2**20)) for _ in range(260)) + packer.flush()
            files[name].write_bytes(packed)
        else:
            content = start + bytes(2 * int(np.prod(shape)))
            files[name].write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with tifffile.TiffWriter(files["pages.tif"]) as pages:
        for _ in range(6):
            pages.write(np.zeros((4096, 4096), np.uint8), compression="zlib")
    write(files["frames.dcm"], np.zeros((128, 128), np.int16), NumberOfFrames=10**8)
    dataset = pydicom.dcmread(write(folder / "b.dcm", np.zeros((12000, 12000), np.int16)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(files["deflated.dcm"])
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((34, 2048, 2048), np.int16)), str(files["a.mha"]), True)
    (folder / "b.dcm").unlink()
    return files


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return bombs(tmp_path_factory.mktemp("bombs") / "files")


@pytest.mark.parametrize("name", ["long.nii.gz", "many.nii.gz", "many.nii", "pages.tif", "frames.dcm", "deflated.dcm", "a.mha"])
def test_a_small_file_is_refused_at_once_and_without_taking_the_memory(name: str, small_files: dict[str, Path]) -> None:
    """In a process that may have 600 MiB beside what its libraries take, it is one line within a second of work."""
    assert small_files[name].stat().st_size < 2**21
    code = (
        "import pydicom, nibabel, SimpleITK, tifffile, resource, sys, time; from pathlib import Path; from pipeline.formats import table\n"
        "from pipeline.errors import UserError\n"
        "taken = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (taken + 600 * 2**20,) * 2)\n"
        "began = time.process_time()\n"
        "try: table.read_volume(Path(sys.argv[1]))\n"
        "except UserError as error: print(time.process_time() - began, error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(small_files[name])], capture_output=True, text=True, timeout=120, check=False)
    assert out.stdout, out.stderr
    seconds, line = out.stdout.split(" ", 1)
    assert float(seconds) < 2
    assert line.startswith(str(small_files[name]))
    assert line.count("\n") == 1


@pytest.mark.timeout(60)
def test_bytes_behind_a_deflated_picture_do_not_keep_the_reader_for_ever(tmp_path: Path) -> None:
    flat = np.zeros((1024, 1024), np.int16)  # unpacks to more than is taken at once
    dataset = pydicom.dcmread(write(tmp_path / "a.dcm", flat, Modality="MR"))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes((tmp_path / "a.dcm").read_bytes() + b"?" * 100)
    code = "import sys; from pathlib import Path; from pipeline.formats import table; table.read_slices(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.dcm")], timeout=20, capture_output=True, check=False)


def test_a_server_may_set_lower_limits(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii")
    with pytest.raises(Unreadable, match=r"claims 6 slices of 8 × 7 pixels; at most 5 slices"):
        table.read_volume(path, limits=Limits(slices=5))


def test_the_name_of_the_result_says_its_format(tmp_path: Path) -> None:
    source = nifti(tmp_path / "a.nii")
    volume = table.read_volume(source, "mr")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct"), "", (40, 80))
    for name in ("b.nii.gz", "b.hdr", "b.mha", "b.nrrd", "b.mgz", "b"):
        out = table.write(volume, synthetic, source, tmp_path / name)
        assert out.name == {"b": "b.nii.gz"}.get(name, name)
        again = table.read_volume(out)
        np.testing.assert_array_equal(again.voxels, VALUES)
        np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)
    for name, reason in (("b.png", "not picture"), ("b.dcm", "not DICOM"), ("b.xyz", "a name that ends in")):
        with pytest.raises(UserError, match=reason):
            table.write(volume, synthetic, source, tmp_path / name)


def test_a_dicom_series_may_become_a_nifti_volume_in_its_place(tmp_path: Path) -> None:
    for place in (0, 5, 10):
        write(tmp_path / f"in/{place}.dcm", VALUES[..., 0] + place, place)
    volume = table.read_volume(tmp_path / "in", "ct")
    synthetic = Synthetic(volume.voxels, "hu", Label("ct-to-mr"), "", (40, 80))
    out = table.write(volume, synthetic, tmp_path / "in", tmp_path / "out.nii.gz")
    series = SimpleITK.ImageSeriesReader()
    series.SetFileNames(series.GetGDCMSeriesFileNames(str(tmp_path / "in")))
    itk, seen = series.Execute(), SimpleITK.ReadImage(str(out))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(seen), SimpleITK.GetArrayFromImage(itk))
    for what in ("GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(seen, what)(), getattr(itk, what)(), atol=1e-5)


def test_uneven_slices_need_their_own_format(tmp_path: Path) -> None:
    for place in (0, 2, 4, 9, 14):
        write(tmp_path / f"in/{place}.dcm", VALUES[..., 0], place)
    volume = table.read_volume(tmp_path / "in", "ct")
    synthetic = Synthetic(volume.voxels, "hu", Label("ct-to-mr"), "", (40, 80))
    with pytest.raises(UserError, match="unevenly spaced; write DICOM"):
        table.write(volume, synthetic, tmp_path / "in", tmp_path / "out.nii.gz")


def test_a_name_of_250_bytes(tmp_path: Path) -> None:
    source = nifti(tmp_path / f"{'n' * 243}.nii")
    volume = table.read_volume(source, "mr")
    synthetic = Synthetic(volume.voxels, "hu", Label("mr-to-ct"), "", (40, 80))
    for name in (f"{'ä' * 123}.nii", f"{'n' * 246}.mha", f"{'n' * 246}.hdr"):
        assert table.write(volume, synthetic, source, tmp_path / "out" / name).exists()


def test_libraries_come_with_the_first_file_that_needs_them() -> None:
    """Nothing of pydicom, nibabel, SimpleITK or scipy is loaded before a file needs it."""
    libraries = ("pydicom", "nibabel", "SimpleITK", "scipy", "tifffile")
    code = f"import sys, pipeline.formats.table; print([name for name in {libraries} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("archive", ["zip", "tar", "gztar", "bztar", "xztar"])
def test_an_archive_is_called_one(archive: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("x")
    made = Path(shutil.make_archive(str(tmp_path / "scan"), archive, tmp_path / "in"))
    with pytest.raises(Unreadable, match=r"packed by (zip|tar|bzip2|xz); unpack it"):
        table.recognise(made.rename(tmp_path / "scan.nii.gz"))
