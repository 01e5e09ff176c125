"""What DVC says of the graph by its API, and one stage of it brought up to date in a process of its own. No stage here trains anything."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.retraining import graph
from tests.graph.projects import BIN, init_dvc

DVC_YAML = """\
stages:
  copy:
    cmd: cp given copied
    deps: [given]
    outs: [copied]
  count:
    cmd: {command}
    deps: [copied]
    params: [factor]
    outs: [counted]
"""
COUNT = "mkdir counted && wc -c < copied > counted/bytes && echo counting"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A graph of two stages in a git repository."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "given").write_text("twelve bytes")
    (folder / "params.yaml").write_text("factor:\n  by: 2\n")
    (folder / "dvc.yaml").write_text(DVC_YAML.format(command=COUNT))
    init_dvc(folder)
    for command in (
        ["git", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@e.org", "commit", "-qm", "x"],
    ):
        subprocess.run(command, cwd=folder, check=True)
    return folder


def _run_all(folder: Path, force: bool = False) -> list[str]:
    return [graph.run_stage(stage, folder, lambda _: None, force=force).outcome for stage in graph.stage_names(folder)]


def test_a_stage_runs_is_left_alone_or_is_restored(project: Path) -> None:
    lines: list[str] = []
    assert graph.unchanged_stages(project) == []
    assert graph.run_stage("copy", project, lines.append).outcome == "ran"
    assert graph.run_stage("count", project, lines.append).outcome == "ran"
    assert "counting" in lines
    assert _run_all(project) == ["unchanged", "unchanged"]
    (project / "params.yaml").write_text("factor:\n  by: 3\n")
    assert graph.unchanged_stages(project) == ["copy"]
    assert _run_all(project) == ["unchanged", "ran"]
    (project / "params.yaml").write_text("factor:\n  by: 2\n")
    assert _run_all(project) == ["unchanged", "restored"]
    assert _run_all(project, force=True) == ["ran", "ran"]


def test_outputs_need_not_be_there_to_be_known(project: Path) -> None:
    _run_all(project)
    for name in ("copied", "counted"):
        subprocess.run(["rm", "-r", name], cwd=project, check=True)
    assert graph.unchanged_stages(project) == ["copy", "count"]
    assert graph.read_locked_param(project, "count", "factor.by") == 2
    assert graph.read_locked_param(project, "count", "factor.no") is None
    graph.checkout(project)
    assert (project / "counted/bytes").read_text().strip() == "12"


def test_json_is_read_from_the_cache_as_the_lock_has_it(project: Path) -> None:
    (project / "given").write_text('{"images": 3}')
    _run_all(project)
    (project / "copied").unlink()
    (project / "copied").write_text('{"images": 4}')
    assert graph.read_cached_json(project, Path("copied")) == {"images": 3}
    assert graph.read_cached_json(project, Path("absent")) == {}


def test_a_lost_cache_is_no_fault_and_all_is_made_again(project: Path) -> None:
    (project / "given").write_text('{"images": 3}')
    (project / "dvc.yaml").write_text(DVC_YAML.format(command="mkdir -p counted && cp copied counted/bytes"))
    _run_all(project)
    assert graph.read_cached_json(project, Path("counted/bytes")) == {"images": 3}
    for place in ("copied", "counted", ".dvc/cache", ".dvc/tmp"):
        subprocess.run(["rm", "-r", place], cwd=project, check=True)
    assert graph.read_cached_json(project, Path("counted/bytes")) == {}
    assert graph.read_cached_json(project, Path("copied")) == {}
    assert graph.checkout(project) == ["copy", "count"]
    assert _run_all(project) == ["ran", "ran"]


def test_a_failed_stage_says_its_own_last_word(project: Path) -> None:
    (project / "dvc.yaml").write_text(DVC_YAML.format(command="echo one; echo the reason >&2; exit 2"))
    graph.run_stage("copy", project, lambda _: None)
    with pytest.raises(graph.StageFailed) as failed:
        graph.run_stage("count", project, lambda _: None)
    assert str(failed.value) == "stage count failed: it crashed or was killed; its last line: the reason"
    assert failed.value.lines[-2:] == ["one", "the reason"]


def test_dvc_s_own_reason_comes_through(project: Path) -> None:
    with pytest.raises(graph.StageFailed, match=r"stage count failed: .*missing.*copied|copied.*missing|No such file.*copied"):
        graph.run_stage("count", project, lambda _: None)


def test_a_stage_that_takes_too_long_gets_time_to_save(project: Path) -> None:
    saver = textwrap.dedent("""
        import signal, sys, time
        def save(*_):
            time.sleep(1); open('saved', 'w').close(); sys.exit(2)
        signal.signal(signal.SIGTERM, save)
        print('at work', flush=True)
        time.sleep(600)
    """)
    (project / "saver.py").write_text(saver)
    (project / "dvc.yaml").write_text(DVC_YAML.format(command=f"{sys.executable} saver.py"))
    graph.run_stage("copy", project, lambda _: None)
    began = time.monotonic()
    with pytest.raises(
        graph.StageFailed, match=r'took longer than 0.2 minutes and was stopped; raise timeout_minutes, such as {"count": 0.4}'
    ):
        graph.run_stage("count", project, lambda _: None, timeout=12)
    assert (project / "saved").is_file()
    assert time.monotonic() - began < 12 + graph.GRACE
    assert not [process for process in psutil.process_iter(["cmdline"]) if "saver.py" in (process.info["cmdline"] or [])]


def test_what_dvc_refuses_is_one_line(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: [")
    with pytest.raises(UserError, match=r"dvc\.yaml"):
        graph.read_locked_param(project, "copy", "factor")
    for text in ("stages: [", "stage: {}", "stages: 3", "", "\x00"):
        (project / "dvc.yaml").write_text(text)
        with pytest.raises(UserError, match=r"dvc\.yaml: no stages can be read from it"):
            graph.stage_names(project)


def test_prefect_is_needed_by_four_files_only() -> None:
    """History, DVC and the registry's part serve commands that must start quickly."""
    pieces = ["champion", "graph", "history", "reproduce", "summary", "workspace"]
    code = f"import sys\nfor piece in {pieces}: __import__('pipeline.retraining.' + piece)\nfor name in ('prefect', 'mlflow'): "
    code += "print(name in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]


def test_what_the_cache_lost_is_made_again(project: Path) -> None:
    """As after `dvc gc -w`, which knows only what the user's own folder uses."""
    _run_all(project)
    for name in (".dvc/cache", "copied", "counted"):
        subprocess.run(["rm", "-rf", name], cwd=project, check=True)
    assert graph.unchanged_stages(project) == ["copy", "count"]
    assert graph.checkout(project) == ["copy", "count"]
    assert _run_all(project) == ["ran", "ran"]
    assert graph.checkout(project) == []


def test_a_cache_that_cannot_take_an_output_fails_the_stage(project: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system of its own size")
    try:
        subprocess.run([BIN / "dvc", "config", "cache.dir", full], cwd=project, check=True)
        (project / "given").write_bytes(bytes(200_000))
        with pytest.raises(graph.StageFailed, match=r"cache could not take copied; free space|No space left"):
            graph.run_stage("copy", project, lambda _: None)
    finally:
        subprocess.run(["umount", full], check=True)
