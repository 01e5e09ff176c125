"""Outputs appear under their name only when complete, and a failure leaves what was there before."""

import errno
import os
import subprocess
import sys
from pathlib import Path

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


def test_what_a_killed_process_left_is_removed_and_nobody_elses(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from pipeline import atomic\n"
    code += "with atomic.new_folder(Path(sys.argv[1])) as beside: print(beside, flush=True); time.sleep(60)"
    killed, working = (subprocess.Popen([sys.executable, "-c", code, tmp_path / "slices"], stdout=subprocess.PIPE, text=True) for _ in "ab")
    left, held = (Path(one.stdout.readline().strip()) for one in (killed, working))
    try:
        killed.kill()
        killed.wait()
        assert left.is_dir()
        with atomic.new_folder(tmp_path / "slices") as beside:
            assert sorted(tmp_path.iterdir()) == sorted([beside, held])
    finally:
        working.kill()
        working.wait()
