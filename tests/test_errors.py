"""What ends a process is one line, and its parent learns more than the line where it asks."""

import errno
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import errors
from pipeline.atomic import new_file
from pipeline.errors import ERROR_FILE, UserError, as_one_line, read_error, user_errors


def test_a_mendable_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, user_errors():
        raise UserError("this\nis wrong")
    assert (end.value.code, capsys.readouterr().err) == (2, "error: this is wrong\n")


def test_a_package_that_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, user_errors():
        import no_such_package.inner  # noqa: F401
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: this needs no_such_package, which is not installed: pip install 'ctmr[train]'")
    with pytest.raises(ModuleNotFoundError), user_errors():
        import pipeline.no_such_module  # noqa: F401


@pytest.mark.parametrize("retryable", [True, False])
def test_a_parent_process_learns_whether_another_attempt_may_help(tmp_path: Path, retryable: bool) -> None:
    failing = f"from pipeline.errors import *\nwith user_errors(): raise UserError('no answer', retryable={retryable})"
    file = tmp_path / "error.json"
    ended = subprocess.run([sys.executable, "-c", failing], env={ERROR_FILE: str(file), "PYTHONPATH": "."}, check=False)
    error = read_error(file)
    assert ended.returncode == 2
    assert error is not None
    assert (str(error), error.retryable) == ("no answer", retryable)
    assert read_error(tmp_path / "none.json") is None


def test_the_attribute_survives_the_way_between_processes() -> None:
    assert pickle.loads(pickle.dumps(UserError("no answer", retryable=True))).retryable


@pytest.mark.parametrize("error", [NotADirectoryError(errno.ENOTDIR, "Not a directory", "out"), OSError(errno.EMFILE, "x"), MemoryError()])
def test_whatever_the_system_refuses_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, user_errors():
        raise error
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(OSError, match="cannot identify"), user_errors():
        raise OSError("cannot identify image file")  # of a library, which the readers name


def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)  # as in a container that runs as any number
    with pytest.raises(SystemExit) as end, user_errors():
        Path.home()
    assert end.value.code == 2
    assert "set HOME to a folder" in capsys.readouterr().err


def test_the_facts_of_a_child_that_was_killed_while_it_left_them_are_none(tmp_path: Path) -> None:
    (tmp_path / "error.json").write_text('{"message": "no ro')
    assert read_error(tmp_path / "error.json") is None


def test_a_terminal_without_our_letters_gets_their_numbers() -> None:
    printing = "from pipeline.errors import *\nwith user_errors(): print('CT → MR', 'caf\\udce9.png')"
    for encoding, arrow in (("ascii", "\\u2192"), ("utf-8", "→")):
        environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": "."}
        ended = subprocess.run([sys.executable, "-c", printing], env=environment, capture_output=True, check=False)
        assert ended.stdout.decode() == f"CT {arrow} MR caf\\udce9.png\n", ended.stderr


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_an_error_of_the_system_names_its_place(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A semaphore in /dev/shm that is refused has no file name."""
    with pytest.raises(SystemExit), user_errors():
        raise OSError(code, "refused")
    assert capsys.readouterr().err.startswith(
        f"error: the disk, temporary files in {tempfile.gettempdir()}, or shared memory in /dev/shm: "
    )
    with pytest.raises(SystemExit), user_errors():
        raise OSError(code, "refused", "out/scan.nii.gz")
    assert capsys.readouterr().err.startswith("error: out/scan.nii.gz: ")


def test_of_a_copy_that_the_disk_refuses_the_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), user_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "scan.png", None, "out/scan.png")
    assert capsys.readouterr().err == "error: out/scan.png: no space left on the disk; free some and run again\n"


def test_where_temporary_files_have_no_room_their_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the output, which lies on another disk: a person would free space there, in vain."""
    monkeypatch.setattr(errors.tempfile, "tempdir", "/dev")
    monkeypatch.setattr(errors.os, "statvfs", lambda place: SimpleNamespace(f_bavail=0, f_frsize=1, f_files=0, f_favail=0))
    with pytest.raises(SystemExit), user_errors(), new_file(tmp_path / "out.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert capsys.readouterr().err.startswith("error: /dev (for temporary files; TMPDIR names another): no space left on the disk")
    monkeypatch.setattr(errors.tempfile, "tempdir", str(tmp_path))  # on the same disk, it is the output that a person knows
    monkeypatch.setattr(errors, "_SHARED_MEMORY", str(tmp_path))
    with pytest.raises(SystemExit), user_errors(), new_file(tmp_path / "out.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/out.json: no space left on the disk")


def test_a_name_with_line_breaks_and_control_characters_is_one_line() -> None:
    assert as_one_line("a\nb \x1b[31m\udcff Ünï 頭.nii") == "a\\nb \\x1b[31m\\udcff Ünï 頭.nii"


def test_a_process_without_streams_prints_nowhere_and_into_no_file(tmp_path: Path) -> None:
    printing = "from pipeline.errors import *\nwith user_errors(), open(sys.argv[1], 'w') as file:\n"
    printing += "    print('told', sys.stdout.isatty(), flush=True); os.system('echo told'); file.write('kept')"
    command = [sys.executable, "-c", printing, str(tmp_path / "out")]
    ended = subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], env={"PYTHONPATH": "."}, check=False)
    assert ended.returncode == 0
    assert (tmp_path / "out").read_text() == "kept"


def test_a_stdout_without_room_is_named() -> None:
    script = "from pipeline.errors import user_errors\nwith user_errors():\n    [print('x' * 50) for _ in range(5000)]"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: stdout, to wherever it leads: no space left on the disk; free some and run again\n"
