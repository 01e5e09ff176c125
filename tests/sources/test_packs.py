"""Many files lie in packs: the same files again come out, and a few new ones change a few packs."""

import zipfile
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.sources import packs


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_ABOVE", 50)
    monkeypatch.setattr(packs, "EACH", 8)


def fill(folder: Path, patients: range) -> dict[str, bytes]:
    """40 files of each of `patients`, and two tables; gives all by name."""
    files = {
        f"{side}/p{patient:03d}/Schädel {n}.png": f"{side}{patient}{n}".encode()
        for patient in patients
        for side in ("ct", "mr")
        for n in range(20)
    }
    files |= {"source.json": b"{}", "files.csv": b"path,patient,contrast\n"}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def read(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_was_packed_comes_out_again_and_nothing_is_left_beside(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    files = fill(raw, range(3))
    packs.pack(raw)
    assert sorted(place.name for place in raw.iterdir()) == ["files.csv", "packs", "source.json"]
    assert 1 < len(list((raw / "packs").iterdir())) < 40
    with packs.unpacked(raw) as folder:
        assert read(folder) == files
    assert [place.name for place in tmp_path.iterdir()] == ["raw"]


def test_a_few_files_lie_as_they_came(tmp_path: Path) -> None:
    files = fill(tmp_path, range(1))
    packs.pack(tmp_path)
    assert read(tmp_path) == files
    with packs.unpacked(tmp_path) as folder:
        assert folder == tmp_path


def test_same_files_same_bytes_and_a_new_patient_changes_few_packs(tmp_path: Path) -> None:
    made = []
    for name, patients in {"one": range(40), "again": range(40), "more": range(41)}.items():
        fill(tmp_path / name, patients)
        packs.pack(tmp_path / name)
        made.append({content for file, content in read(tmp_path / name).items() if file.startswith("packs/")})
    one, again, more = made
    assert one == again
    assert len(one - more) <= 2  # the last of CT and that of MR
    assert len(more - one) <= 2 + 40 / 2


def test_a_pack_ends_before_it_grows_without_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "EACH", 10**9)
    monkeypatch.setattr(packs, "LARGEST", 100)
    fill(tmp_path, range(3))
    packs.pack(tmp_path)
    assert all(file.stat().st_size < 10_000 for file in (tmp_path / "packs").iterdir())


def test_a_damaged_pack_is_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    fill(raw, range(3))
    packs.pack(raw)
    file = raw / "packs/00001.zip"
    with zipfile.ZipFile(file) as archive:
        at = archive.infolist()[0].header_offset + 30 + len(archive.infolist()[0].filename.encode())
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], b""):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"00001\.zip: damaged; dvc checkout --force"), packs.unpacked(raw):
            pass
        assert [place.name for place in tmp_path.iterdir()] == ["raw"]
