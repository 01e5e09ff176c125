"""Checkpoints belong to one job: whatever shapes the weights changes its digest, and a training that is meant to run again does."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline import paths
from pipeline.params import Params
from pipeline.training import checkpoint
from tests.training import jobs

CPU = torch.device("cpu")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = jobs.make(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def test_what_shapes_the_weights_changes_the_digest(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "start").mkdir()
    (project / "start/ct_to_mr.safetensors").write_bytes(b"weights")
    warm = with_train(start_from="start")
    digests = {"as it is": checkpoint.job_digest(jobs.PARAMS, CPU, "float32"), "warm": checkpoint.job_digest(warm, CPU, "float32")}
    (project / "start/ct_to_mr.safetensors").write_bytes(b"other weights")
    digests["starting weights"] = checkpoint.job_digest(warm, CPU, "float32")
    digests["precision"] = checkpoint.job_digest(jobs.PARAMS, CPU, "bfloat16")
    digests["params"] = checkpoint.job_digest(with_train(seed=5), CPU, "float32")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    digests["threads"] = checkpoint.job_digest(jobs.PARAMS, CPU, "float32")
    torch.set_num_threads(threads)
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "9.9")
        digests["torch"] = checkpoint.job_digest(jobs.PARAMS, CPU, "float32")
    for split in ("train", "val", "teacher_val"):
        np.save(project / paths.slices(split, "mr"), np.full((3, 32, 32), len(digests), np.uint8))
        digests[split] = checkpoint.job_digest(jobs.PARAMS, CPU, "float32")
    assert len(set(digests.values())) == len(digests), digests


def test_all_code_that_train_runs_is_in_the_digest(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    for name in ("pipeline", "stages"):
        shutil.copytree(jobs.SOURCE / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(jobs.SOURCE / "dvc.yaml", code)
    monkeypatch.setattr(checkpoint, "CODE", code)
    before = checkpoint.job_digest(jobs.PARAMS, CPU, "float32")
    for name in ("pipeline/dataset/slice_arrays.py", "pipeline/models/losses.py", "pipeline/training/loop.py", "stages/train.py"):
        (code / name).write_text((code / name).read_text() + "# changed\n")
        after = checkpoint.job_digest(jobs.PARAMS, CPU, "float32")
        assert after != before, name
        before = after
    (code / "pipeline/evaluation/report.py").write_text("")
    assert checkpoint.job_digest(jobs.PARAMS, CPU, "float32") == before


def test_where_it_is_written_and_how_often_it_saves_shapes_nothing(project: Path) -> None:
    assert checkpoint.job_digest(with_train(checkpoint_seconds=1.0), CPU, "float32") == checkpoint.job_digest(jobs.PARAMS, CPU, "float32")


@pytest.mark.timeout(600)
def test_outputs_that_were_never_recorded_are_written_again_without_training_and_dvc_repro_force_trains_again(tmp_path: Path) -> None:
    folder = jobs.make(tmp_path / "project", images=16)
    stage = {"cmd": f"{sys.executable} -m stages.train", "deps": ["data/slices"], "params": ["train"], "outs": ["models", "reports/train"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": stage}}))
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    no_scm = True\n")  # what dvc init --no-scm writes
    assert "going on" not in jobs.finish(folder, **jobs.AWAY)
    shutil.rmtree(folder / paths.MODELS)  # as dvc does when it runs the stage again; killed before, it had not recorded the training
    assert "going on from step 32 of 32" in dvc(folder, "repro")
    first = (folder / paths.RUN_JSON).read_text()
    assert "going on" not in dvc(folder, "repro", "--force")
    assert (folder / paths.RUN_JSON).read_text() != first, "another training is another run"


def dvc(folder: Path, *arguments: str) -> str:
    env = jobs.environment(folder) | jobs.AWAY | {"DVC_SITE_CACHE_DIR": str(folder.parent / "site")}
    ended = subprocess.run(["dvc", *arguments], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def with_train(**changes: object) -> Params:
    return jobs.PARAMS.model_copy(update={"train": jobs.PARAMS.train.model_copy(update=changes)})
