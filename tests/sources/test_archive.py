"""Archives from strangers: sound ones unpack to what was packed; nothing else gets out of them."""

import contextlib
import io
import os
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.sources import archive

FILES = {"Dataset/trainA/1.png": b"one" * 1000, "Dataset/trainB/deep/er/2.jpg": b"two", "empty.bin": b""}
TARS = {".tar": "w", ".tar.gz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def pack(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
    else:
        mode = TARS["".join(path.suffixes)]
        with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                opened.addfile(entry, io.BytesIO(content))
    return path


def unpacked(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_every_kind_unpacks_to_what_was_packed(suffix: str, tmp_path: Path, target: Path) -> None:
    assert archive.extract(pack(tmp_path / f"a{suffix}", FILES), target) == 3
    assert unpacked(target) == FILES


def test_the_name_does_not_matter(tmp_path: Path, target: Path) -> None:
    archive.extract(pack(tmp_path / "a.zip", FILES).rename(tmp_path / "download"), target)
    assert unpacked(target) == FILES


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out.png", "a/../../out.png", "..", "C:/out.png", "C:out.png", "a\\..\\..\\out.png", "\\out.png"]
)
def test_paths_that_lead_outside_are_refused(name: str, suffix: str, tmp_path: Path, target: Path) -> None:
    with pytest.raises(UserError, match="points outside"):
        archive.extract(pack(tmp_path / f"a{suffix}", {"fine.png": b"x", name: b"x"}), target)
    assert {file.name for file in tmp_path.iterdir()} == {f"a{suffix}", "target"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path, target: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        entry = tarfile.TarInfo("ct/1.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        opened.addfile(entry)
    with pytest.raises(UserError, match="link or device"):
        archive.extract(tmp_path / "a.tar", target)


def test_links_in_a_zip_are_refused(tmp_path: Path, target: Path) -> None:
    entry = zipfile.ZipInfo("ct/1.png")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match="link or device"):
        archive.extract(tmp_path / "a.zip", target)


@pytest.mark.parametrize("fault", ["checksum", "link", "twice", "long", "outside", "device"])
def test_no_file_is_named_since_names_may_be_patients(fault: str, tmp_path: Path, target: Path) -> None:
    path, name = tmp_path / "a.zip", "Zyxwvut_Quentin/1.png"
    if fault == "device":
        with tarfile.open(path, "w") as opened:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.CHRTYPE
            opened.addfile(entry)
    else:
        with zipfile.ZipFile(path, "w") as zipped, warnings.catch_warnings(action="ignore"):
            for number in range(2 if fault == "twice" else 1):
                info = zipfile.ZipInfo({"long": name + "x" * 300, "outside": f"../{name}"}.get(fault, name))
                info.external_attr = (stat.S_IFLNK | 0o777) << 16 if fault == "link" else 0
                zipped.writestr(info, f"content {number}")
        if fault == "checksum":
            path.write_bytes(path.read_bytes().replace(b"content", b"CONTENT", 1))
    with pytest.raises(UserError) as refusal:
        archive.extract(path, target)
    assert "Quentin" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{path}: ")


def test_backslashes_of_windows_archivers_separate_folders(tmp_path: Path, target: Path) -> None:
    archive.extract(pack(tmp_path / "a.zip", {"ct\\1.png": b"x"}), target)
    assert unpacked(target) == {"ct/1.png": b"x"}


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_bombs_are_stopped(suffix: str, tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack(tmp_path / f"a{suffix}", {f"{number}.png": bytes(10**6) for number in range(10)})
    archive.extract(bomb, target)  # small enough to be let pass, however well it packs
    monkeypatch.setattr(archive, "FREE_BYTES", 10**6)
    for file in target.iterdir():
        file.unlink()
    with pytest.raises(UserError, match="archive bomb"):
        archive.extract(bomb, target)
    assert sum(file.stat().st_size for file in target.iterdir()) <= 5 * 10**6


def test_too_many_files(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    with pytest.raises(UserError, match="more than 2 files"):
        archive.extract(pack(tmp_path / "a.zip", FILES), target)


def test_a_tar_header_that_claims_a_huge_size_takes_no_memory(tmp_path: Path, target: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "a.tar").write_bytes(entry.tobuf() + bytes(1024))
    with pytest.raises(UserError, match="damaged archive"):
        archive.extract(tmp_path / "a.tar", target)


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_name_that_is_there_twice(suffix: str, tmp_path: Path, target: Path) -> None:
    with pytest.raises(UserError, match="twice, or as file and folder"):
        archive.extract(pack(tmp_path / f"a{suffix}", {"ct/1": b"x", "ct/1/2.png": b"x"}), target)


def test_encrypted(tmp_path: Path, target: Path) -> None:
    content = bytearray(pack(tmp_path / "a.zip", {"1.png": b"x"}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        archive.extract(tmp_path / "a.zip", target)


@pytest.mark.parametrize("suffix", [".zip", *TARS])
@pytest.mark.parametrize("share", [0, 0.3, 0.7, 0.99])
def test_truncated(suffix: str, share: float, tmp_path: Path, target: Path) -> None:
    whole = pack(tmp_path / f"a{suffix}", {f"{number}": os.urandom(3000) for number in range(5)})
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    if suffix == ".tar" and share == 0.99:
        return  # the end of a tar is padding
    with pytest.raises(UserError, match=r"damaged|an empty file|neither a zip nor a tar"):
        archive.extract(whole, target)


def test_missing(tmp_path: Path, target: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        archive.extract(tmp_path / "none.zip", target)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), suffix=st.sampled_from([".zip", ".tar", ".tar.gz"]))
def test_whatever_the_bytes_only_the_documented_error(data: st.DataObject, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    content = bytearray(pack(folder / f"a{suffix}", FILES).read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[place] = value
    (folder / f"a{suffix}").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    (folder / "target").mkdir()
    with contextlib.suppress(UserError):
        archive.extract(folder / f"a{suffix}", folder / "target")
    assert {file.name for file in folder.iterdir()} == {f"a{suffix}", "target"}
