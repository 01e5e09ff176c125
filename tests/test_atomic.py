"""Outputs appear under their name only when complete, and a failure leaves what was there before."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import atomic
from pipeline.errors import UserError, user_errors


def test_file_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "result.csv"
    with atomic.new_file(target) as beside:
        beside.write_text("half")
        assert not target.exists()
        assert beside.suffix == ".csv"
    assert target.read_text() == "half"
    assert os.listdir(target.parent) == ["result.csv"]


@pytest.mark.parametrize(("umask", "file", "folder"), [(0o077, 0o600, 0o700), (0o022, 0o644, 0o755), (0o002, 0o664, 0o775)])
def test_others_may_read_it_where_they_may_read_what_this_process_writes(tmp_path: Path, umask: int, file: int, folder: int) -> None:
    before = os.umask(umask)
    try:
        with atomic.new_file(tmp_path / "translated.png") as beside:
            beside.write_bytes(b"a patient")
        with atomic.new_folder(tmp_path / "series"):
            pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("translated.png", "series")] == [file, folder]


def test_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "result.csv"
    target.write_text("good")
    with pytest.raises(RuntimeError), atomic.new_file(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "good"
    assert os.listdir(tmp_path) == ["result.csv"]


def test_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "raw"
    target.mkdir()
    (target / "good.png").touch()
    with pytest.raises(RuntimeError), atomic.new_folder(target) as beside:
        (beside / "half.png").touch()
        raise RuntimeError
    assert os.listdir(target) == ["good.png"]
    assert os.listdir(tmp_path) == ["raw"]


def test_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "raw"
    target.mkdir()
    (target / "old.png").touch()
    with atomic.new_folder(target) as beside:
        (beside / "new.png").touch()
    assert os.listdir(target) == ["new.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="open files are named by /proc")
def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may keep a rename and lose what was written before it: files of zeros after a loss of power."""
    events: list[str] = []
    flush, rename = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (events.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name}"), flush(handle))
    )
    monkeypatch.setattr(Path, "replace", lambda place, target: (events.append(f"rename {place.name}"), rename(place, target))[1])
    with atomic.new_file(tmp_path / "record.json") as beside:
        beside.write_text("{}")
    assert events == [f"flush {beside.name}", f"rename {beside.name}", f"flush {tmp_path.name}"]
    events.clear()
    with atomic.new_folder(tmp_path / "models", durable=True) as folder:
        (folder / "weights").write_text("1")
    assert events == ["flush weights", f"flush {folder.name}", f"rename {folder.name}", f"flush {tmp_path.name}"]


def test_json_has_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "one.json", {"b": 1, "a": [2.5]})
    atomic.write_json(tmp_path / "two.json", {"a": [2.5], "b": 1})
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "scores.json", {"ssim": float("nan")})
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("slice.png: not\nan image"), "error: slice.png: not an image\n"),
        (OSError(errno.ENOSPC, "x", "data/raw"), "error: data/raw: no space left on the disk; free some and run again\n"),
    ],
)
def test_user_error_is_one_line_and_exit_code_2(error: Exception, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending, user_errors():
        raise error
    assert ending.value.code == 2
    assert capsys.readouterr().err == expected


def test_a_defect_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), user_errors():
        print(1 / 0)


WRITER = """
import sys, time
from pathlib import Path
from pipeline import atomic
with getattr(atomic, sys.argv[1])(Path(sys.argv[2])) as beside:
    print(beside, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Callable[[str, str], tuple[subprocess.Popen[str], Path]]]:
    """Starts a process that writes and never ends; gives it with the place it writes to."""
    started = []

    def start(kind: str, name: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", WRITER, kind, tmp_path / name], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["new_file", "new_folder"])
def test_what_a_killed_process_left_is_removed_and_nobody_elses(tmp_path: Path, kind: str, writers: Callable[..., Any]) -> None:
    killed, left = writers(kind, "slices")
    _, held = writers(kind, "slices")
    killed.kill()  # and not waited for: a zombie, as in a container whose first process waits for nobody
    end = time.monotonic() + 10
    while left.exists() and time.monotonic() < end:
        with atomic.new_folder(tmp_path / "another output"):
            time.sleep(0.05)
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "another output", held])


def test_an_old_folder_is_never_seen_half_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "raw"
    with atomic.new_folder(target) as beside:
        (beside / "old.png").touch()
    removed = []
    remove = shutil.rmtree
    monkeypatch.setattr(
        "shutil.rmtree", lambda place, **options: (removed.append((Path(place).name, os.listdir(target))), remove(place, **options))
    )
    with atomic.new_folder(target) as beside:
        (beside / "new.png").touch()
    assert {content for _, (content,) in removed} == {"new.png"}
    assert os.listdir(tmp_path) == ["raw"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_names_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending, user_errors(), atomic.new_file(tmp_path / "index.json"), open("/dev/full", "w") as full:  # noqa: PTH123
        full.write("x" * 10**6)
    assert ending.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/index.json: no space left on the disk; free some and run again\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 248 + ".nii.gz", "é" * 124 + ".nii.gz"])
def test_a_name_as_long_as_the_disk_takes_is_written(name: str, tmp_path: Path) -> None:
    with atomic.new_file(tmp_path / name) as file:
        file.write_text("whole")
    with atomic.new_folder(tmp_path / f"d{name[1:]}") as folder:
        (folder / "inside").write_text("whole")
    assert (tmp_path / name).read_text() == (tmp_path / f"d{name[1:]}/inside").read_text() == "whole"
    assert len(os.listdir(tmp_path)) == 2


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending, user_errors(), atomic.new_file(tmp_path / ("x" * 256)) as file:
        file.write_text("whole")
    assert ending.value.code == 2
    assert capsys.readouterr().err.endswith("the name is too long for this disk; choose a shorter one\n")
