"""benchmarks/gpu.py in its rehearsal, tiny and on the CPU, where no card ever ran it; and how bench.py puts results together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from distributed import Client

from benchmarks import bench, cluster, gpu, gpu_checks, made_slices, memory, waiting
from pipeline import params, presets
from pipeline.parallel import SCHEDULER

TINY = gpu.Plan(torch.device("cpu"), (32,), (2,), 4, "resnet_6", 2, ("float32", "bfloat16, CUDA graphs"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_table_has_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.run(TINY, gpu.Clock(1))
    lines = capsys.readouterr().out.splitlines()
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| 32")]
    assert [row[1] for row in table] == [
        "reference float32",
        "float32",
        "bfloat16, CUDA graphs",
        "slices and pairs made",
        "teacher's step, bfloat16, CUDA graphs",
        "unpaired step, bfloat16, CUDA graphs",
        "both, and made, bfloat16, CUDA graphs",
        "volume translated, float32",
        "volume translated, bfloat16",
    ]
    assert [row[5] != "" for row in table] == [True] * 3 + [False] * 6
    assert table[0][5] == "1.00"
    for row in table:
        assert float(row[3]) > 0
        assert float(row[4]) == pytest.approx(1000 * int(row[2]) / float(row[3]), rel=0.1, abs=0.1)


def test_what_has_no_time_left_is_said() -> None:
    said = [row for row in gpu.measure_steps(TINY, gpu.Clock(-1)) if isinstance(row, str)]
    assert said == ["float32, 2 at 32: no time left", "bfloat16, CUDA graphs, 2 at 32: no time left"]


def test_other_losses_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_steps(device: torch.device, steps: int, pixels: int, *, plain: bool = False, **_: bool) -> np.ndarray:
        return np.ones((steps, 3)) * (1.04 if plain else 1.0)

    monkeypatch.setattr(gpu_checks, "run_steps", run_steps)
    monkeypatch.setattr(gpu_checks, "cpu_has_bfloat16", lambda: True)
    assert [check.right for check in gpu_checks.check_steps(gpu_checks.CPU, 4, 32)] == [False, False, True]


def test_two_ways_of_convolving_give_the_same_losses() -> None:
    fast, plain = (gpu_checks.run_steps(gpu_checks.CPU, 2, 32, plain=plain) for plain in (False, True))
    assert np.abs(plain / fast - 1).max() < gpu_checks.LIMITS["float32"][0]


def test_a_cluster_has_the_workers_that_were_asked_for() -> None:
    with cluster.workers(3, processes=False), Client(os.environ[SCHEDULER], set_as_default=False) as client:
        assert list(client.nthreads().values()) == [1, 1, 1]


def test_results_say_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.os, "cpu_count", lambda: 4)
    idle, busy = (bench.compose(before, 1.0, 2, ["\n## A part\n\n| ratio |\n"]) for before in (0.5, 5.0))
    assert "4 cores, 2 threads, torch" in idle
    assert "load average 0.5 before and 1.0 after" in idle
    assert "\n## A part\n" in idle
    assert "Other programs ran meanwhile" in busy
    assert "Other programs ran meanwhile" not in idle


def test_a_benchmark_that_fails_leaves_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"benchmarks/absent.py ended with 2; RESULTS.md stays"):
        bench.run("absent.py 60")


def test_memory_that_a_child_has_made_is_told_from_that_of_files(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    file.write_bytes(bytes(96 * 2**20))
    code = f"import mmap, sys; made = bytearray(64 * 2**20); opened = open({str(file)!r}, 'rb')\n"
    code += "mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)\n"
    code += "sum(mapped[::4096]); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        peak = memory.Peak()
        peak.look(psutil.Process(child.pid))
        child.communicate()
    assert peak.most["of files"] * 1024 > 90
    assert 60 < peak.most["anonymous"] * 1024 < 90
    assert peak.most["together"] == pytest.approx(peak.most["anonymous"] + peak.most["of files"])


def test_the_share_of_a_step_that_goes_into_its_data_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = params.parse(presets.nest(presets.complete(["smoke"])), "smoke")
    made_slices.make_project(tmp_path, {"preprocess.pixels": smoke.preprocess.pixels})
    monkeypatch.setattr(sys, "argv", ["waiting.py", "smoke", f"--slices={tmp_path / 'data/slices'}", "--steps=3", "--threads=1"])
    waiting.main()
    table = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in table] == ["teacher", "unpaired"]
    assert all(0 < float(row[3].rstrip("%")) < 100 for row in table)
