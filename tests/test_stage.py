"""The frame of a stage: stopped in any way it ends in one line and leaves nothing; it ends with its dvc; its inputs stay what they were."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from pipeline import atomic
from pipeline.params import Params
from pipeline.stage import running

PROJECT = Path(__file__).parents[1]
WORK = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from pipeline import atomic
from pipeline.stage import running
with running("download") as stage, atomic.new_folder(Path("data/raw")) as folder:
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.02)
"""
GRAPH = {
    "download": {"cmd": f"{sys.executable} work.py", "deps": ["work.py", "given"], "params": ["data", "train.seed"], "outs": ["data/raw"]},
}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A DVC project with one stage that works until a file `go` appears."""
    content = Params().model_dump(by_alias=True)
    for name, text in {
        ".dvc/config": "[core]\n    no_scm = True\n",  # what dvc init --no-scm writes
        "work.py": WORK,
        "given": "",
        "dvc.yaml": yaml.safe_dump({"stages": GRAPH}),
        "params.yaml": yaml.safe_dump(content),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    (tmp_path / "go").touch()


def start(project: Path, *command: str) -> subprocess.Popen[str]:
    """A command in a session of its own, once the stage is at work."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "DVC_SITE_CACHE_DIR": str(project / "site")}
    process = subprocess.Popen(
        command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_until((project / "begun").exists)
    return process


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def left(project: Path) -> list[str]:
    return sorted(os.listdir(project / "data")) if (project / "data").is_dir() else []


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_hand_it_ends_in_one_line_and_leaves_nothing(project: Path, number: signal.Signals, times: int) -> None:
    process = start(project, sys.executable, "work.py")
    for _ in range(times):
        process.send_signal(number)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "error: download was stopped; dvc repro begins it again\n")
    assert left(project) == []


LEAVES = """
import os, signal, sys
from pathlib import Path
from pipeline.stage import running

try:
    with running("download"):
        Path("begun").touch()
        signal.pause()
finally:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
"""


def test_a_signal_on_the_way_out_changes_nothing(project: Path) -> None:
    (project / "work.py").write_text(LEAVES)
    process = start(project, sys.executable, "work.py")
    process.send_signal(signal.SIGHUP)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "error: download was stopped; dvc repro begins it again\n")


LOSES = """
import ctypes, signal, time
from pathlib import Path
from pipeline.stage import running

@ctypes.CFUNCTYPE(None)
def called_by_a_library():
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.02)

with running("download"):
    called_by_a_library()
    time.sleep(60)
"""


def test_an_interrupt_that_a_c_library_swallowed_comes_again(project: Path) -> None:
    (project / "work.py").write_text(LOSES)
    process = start(project, sys.executable, "work.py")
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "error: download was stopped; dvc repro begins it again\n")


SWALLOWS = """
from pathlib import Path
import time
from pipeline import stage

stage.AGAIN_SECONDS = 0.5
with stage.running("download"):
    try:
        Path("begun").touch()
        time.sleep(60)
    except BaseException:
        Path("swallowed").touch()
    time.sleep(60)
"""


def test_a_second_control_c_of_a_person_who_waited_is_a_new_one(project: Path) -> None:
    (project / "work.py").write_text(SWALLOWS)
    process = start(project, sys.executable, "work.py")
    process.send_signal(signal.SIGINT)
    wait_until((project / "swallowed").exists)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "error: download was stopped; dvc repro begins it again\n")


def test_control_c_in_dvc_repro_shows_no_traceback(project: Path) -> None:
    process = start(project, "dvc", "repro")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it, to dvc and stage alike
    printed, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "error: download was stopped; dvc repro begins it again" in printed
    assert "Traceback" not in printed
    assert left(project) == []


WORKERS = """
import time
from pathlib import Path
from pipeline.parallel import in_parallel
from pipeline.stage import running

def work(task=None):
    Path("begun").touch()
    time.sleep(0.2)

FORKING

if __name__ == "__main__":
    with running("download"):
        list(in_parallel(work, range(1000), 2))
"""


@pytest.mark.parametrize("when", ["", "import os; os.register_at_fork(after_in_child=work)"], ids=["at work", "just forked"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_its_workers_end_with_it_without_a_word(project: Path, number: signal.Signals, when: str) -> None:
    (project / "work.py").write_text(WORKERS.replace("FORKING", when))
    process = start(project, sys.executable, "work.py")
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, "error: download was stopped; dvc repro begins it again\n")


SAVES = """
import os, signal, time
from pathlib import Path
from pipeline.stage import running

with running("train", saves=True) as stage:
    Path("begun").touch()
    if not os.fork():
        for _ in range(20000):
            os.kill(os.getppid(), signal.SIGINT)
        os._exit(0)
    while not stage.stop.is_set():
        pass
    os.wait()
"""


def test_signals_on_top_of_each_other_hold_nothing_up(project: Path) -> None:
    (project / "work.py").write_text(SAVES)
    process = start(project, sys.executable, "work.py")
    assert (process.communicate(timeout=60)[0], process.returncode) == ("", 0)


def test_its_workers_end_when_it_is_killed(project: Path) -> None:
    (project / "work.py").write_text(WORKERS.replace("FORKING", ""))
    process = start(project, sys.executable, "work.py")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_it_ends_with_the_dvc_that_started_it(project: Path) -> None:
    process = start(project, "dvc", "repro")
    assert left(project)[0].startswith(".raw.writing-")
    process.kill()
    process.wait()
    wait_until(lambda: left(project) == [])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: change(p, "train", "seed", 7), "params.yaml: train.seed changed from 0 to 7 while download ran"),
        (lambda p: (p / "given").write_text("new"), "given changed while download ran"),
        (lambda p: (p / "given").unlink(), "given changed while download ran"),
    ],
)
def test_what_was_edited_while_it_ran_is_refused(project: Path, edit: Callable[[Path], object], message: str) -> None:
    process = start(project, sys.executable, "work.py")
    edit(project)
    (project / "go").touch()
    printed, _ = process.communicate(timeout=30)
    assert (process.returncode, printed) == (2, f"error: {message}, so its outputs are of neither; run dvc repro again\n")


def test_dvc_records_nothing_of_what_was_edited_while_it_ran(project: Path) -> None:
    process = start(project, "dvc", "repro")
    (project / "given").write_text("new")
    (project / "go").touch()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "error: given changed while download ran" in printed
    assert not (project / "dvc.lock").exists()


def test_what_it_does_not_depend_on_may_be_edited(project: Path) -> None:
    process = start(project, "dvc", "repro")
    change(project, "evaluate", "examples", 9)
    change(project, "train", "images", 9)
    (project / "go").touch()
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 0, printed
    assert left(project) == [".gitignore", "raw"] or left(project) == ["raw"]


def test_outputs_that_dvc_could_not_keep_are_an_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=20 * 2**20))
    for megabytes, ending in ((1, 0), (10, 2)):
        try:
            with running("download"), atomic.new_folder(Path("data/raw")) as folder:
                (folder / "picture.png").write_bytes(bytes(megabytes * 2**20))
            code = 0
        except SystemExit as end:
            code = end.code
        assert code == ending
    line = "error: .dvc/cache: 20 MiB are free on its disk, and DVC needs 26 to keep what download made; free some and run again\n"
    assert capsys.readouterr().err == line
    (project / ".dvc/config.local").write_text("[cache]\n    type = hardlink,symlink\n")
    with running("download"):
        pass


def change(project: Path, section: str, knob: str, value: object) -> None:
    content = yaml.safe_load((project / "params.yaml").read_text())
    content[section][knob] = value
    (project / "params.yaml").write_text(yaml.safe_dump(content))
