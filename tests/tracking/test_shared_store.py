"""A local store that several processes use at once, or that may only be read."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import params, paths
from pipeline.tracking import contest, registry, store
from pipeline.tracking.registration import register
from tests.tracking import projects

# Read with everything that may be read, then try all that writes; a UserError is one line, everything else a traceback and exit code 1.
SCRIPT = """\
from pipeline import params
from pipeline.errors import UserError
from pipeline.tracking import doctor, models_command, registry, runs
from pipeline.tracking.registration import register

models_command.show_models()
print("champion:", registry.fetch("mr-to-ct@champion").version)
doctor.report()
for write in (lambda: models_command.promote("mr-to-ct", "1"), lambda: runs.begin(params.load()), lambda: register(params.load())):
    try:
        write()
    except UserError as error:
        print("error:", error)
    else:
        print("written")
"""
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24  # linux/capability.h, linux/prctl.h


def obey_modes() -> None:
    """In a child process: root is held to the modes of files as everybody else is."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.make(tmp_path_factory.mktemp("shared") / "project")


@pytest.fixture(autouse=True)
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(projects.SOURCE))


def test_two_registers_at_once_make_one_version(project: Path) -> None:
    command = [sys.executable, "-m", "stages.register"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=600) for process in both]
    assert 0 in [process.returncode for process in both], said
    for process, (lines, errors) in zip(both, said, strict=True):
        if process.returncode == 0:
            assert all(f"{name}: version 1, promoted" in lines for name in registry.MODEL_NAMES)
        else:  # the other one took longer than this one waits
            assert process.returncode == 2
            assert "another registration is at work in this project" in errors
            assert "Traceback" not in errors
    uri = store.tracking_uri()
    for name in registry.MODEL_NAMES:
        (version,) = registry.versions(uri, name)
        assert "champion" in version.aliases


def test_a_promotion_that_a_kill_interrupts_is_made_good_and_a_rollback_is_not_undone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projects.make_models(paths.MODELS, seed=1)
    monkeypatch.setattr(contest, "compare_with", lambda *_: {})  # there are no slices here to compare it with the first model on
    uri = store.tracking_uri()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "crown", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            register(params.load())
    assert [str(registry.version(uri, f"{name}@champion").version) for name in registry.MODEL_NAMES] == ["1", "1"]
    register(params.load())
    assert [str(registry.version(uri, f"{name}@champion").version) for name in registry.MODEL_NAMES] == ["2", "2"]
    registry.roll_back(uri, "mr-to-ct")
    register(params.load())
    assert [str(registry.version(uri, f"{name}@champion").version) for name in registry.MODEL_NAMES] == ["2", "1"]


@pytest.mark.skipif(sys.platform != "linux", reason="root is held to modes by Linux's capabilities")
def test_a_store_that_may_only_be_read_is_read_and_says_in_one_line_that_it_cannot_be_written(project: Path) -> None:
    for left in ("answers.json", "registered_model_meta"):  # what earlier readers who may write have left
        for file in (project / paths.MLRUNS).rglob(left):
            file.unlink()
    places = [project / paths.MLRUNS, *(project / paths.MLRUNS).rglob("*")]
    modes = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT], preexec_fn=obey_modes, capture_output=True, text=True, timeout=300, env=dict(os.environ)
        )
    finally:
        for place, mode in modes.items():
            place.chmod(mode)
    assert ended.returncode == 0, ended.stderr[-2000:]
    lines = ended.stdout.splitlines()
    assert "champion: 1" in lines
    assert any("mr-to-ct version 1 is the champion already" in line for line in lines)
    refusals = [line for line in lines if line.startswith("error: ")]
    assert len(refusals) == 2
    assert all("mlflow.db" in line and "may only be read" in line for line in refusals)
