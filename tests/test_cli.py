"""The `ctmr` command as a user runs it."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def ctmr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("ctmr"), *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What the command recognises a project by."""
    shutil.copytree(PROJECT / "presets", tmp_path / "presets")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    return tmp_path


def test_help_is_quick_and_lists_the_commands() -> None:
    began = time.monotonic()
    ended = ctmr(PROJECT, "--help")
    assert ended.returncode == 0
    for command in ("preset", "retrain"):
        assert command in ended.stdout
    assert time.monotonic() - began < 10  # 0.3 s alone; torch, mlflow and prefect together would take over 6


def test_preset_from_a_folder_below(project: Path) -> None:
    (project / "notebooks").mkdir()
    ended = ctmr(project / "notebooks", "preset", "smoke", "--set", "train.images=12")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^train.images: \d+ -> 12$", ended.stdout, re.MULTILINE)
    assert "preprocess.pixels: 64 -> 32\n" in ended.stdout
    assert ctmr(project, "preset", "--set", "train.images=12").stdout == "params.yaml: nothing to change\n"


def test_preset_list(project: Path) -> None:
    ended = ctmr(project, "preset", "--list")
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [
        "box",
        "demo",
        "folder",
        "kaggle-cpu",
        "kaggle-gpu",
        "paired",
        "paper",
        "smoke",
    ]


def test_params_says_what_each_knob_means(project: Path) -> None:
    assert re.search(r"^preprocess.pixels: 64 +side of the square slices", ctmr(project, "params").stdout, re.MULTILINE)
    schema = json.loads(ctmr(project, "params", "--schema").stdout)
    assert "register" in schema["properties"]


def test_outside_a_project_is_one_line(tmp_path: Path) -> None:
    ended = ctmr(tmp_path, "preset", "smoke")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: {tmp_path}: no dvc.yaml and params.yaml here or above; change into the project's folder\n"


def test_a_command_that_is_stopped_removes_what_it_had_half_written(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from pipeline import atomic, cli
@cli.app.command()
def write():
    with atomic.new_file(Path("out.txt")):
        print("writing", flush=True)
        time.sleep(30)
sys.argv = ["ctmr", "write"]
cli.main()
"""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        command = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert command.stdout is not None
        assert command.stdout.readline() == "writing\n"
        command.send_signal(number)
        _, said = command.communicate(timeout=10)
        assert command.returncode == 130
        assert "Traceback" not in said
        assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_command_starts_is_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", "import pipeline; raise KeyboardInterrupt"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "stopped\n")


def test_unknown_preset_is_one_line(project: Path) -> None:
    ended = ctmr(project, "preset", "imaginary")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "imaginary" in ended.stderr
