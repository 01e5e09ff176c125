"""What ends a process is one line, and its parent learns more than the line where it asks."""

import errno
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ERROR_FILE, UserError, read_error, user_errors


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
    assert capsys.readouterr().err.startswith("error: the disk, or shared memory in /dev/shm: ")
    with pytest.raises(SystemExit), user_errors():
        raise OSError(code, "refused", "out/scan.nii.gz")
    assert capsys.readouterr().err.startswith("error: out/scan.nii.gz: ")
