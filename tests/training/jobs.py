"""A tiny training: a project folder with random slices and simulated pairs, and the real stage run in it."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pipeline import params, paths
from pipeline.atomic import new_folder
from pipeline.dataset import slice_arrays, teacher
from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST
from tests.tracking.stores import make_store

KNOWN = ((CT_LOWEST, CT_HIGHEST), (0.0, 80.0))  # HU: a slice of a file in Hounsfield units, and a picture of a brain window
SOURCE = Path(__file__).parents[2]
AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # a training that does without a store does not import MLflow, half of its start


def _small() -> dict[str, object]:
    content = yaml.safe_load((SOURCE / "params.yaml").read_text())
    content["preprocess"] |= {"pixels": 32, "teacher_pairs": 8}
    content["model"] |= {"generator_width": 4, "discriminator_width": 4, "discriminator_layers": 2}
    content["train"] |= {
        "device": "cpu",
        "threads": 1,
        "images": 96,
        "batch_size": 2,
        "pool_size": 4,
        "sample_images": 64,
        "lambda_cycle": 10.0,
        "lambda_identity": 0.5,
        "lambda_adversarial": 1.0,
    }
    content["train"]["teacher"] |= {"images": 48}
    return content


PARAMS = params.parse(_small(), "tests")


@cache
def simulated_heads(size: int) -> Path:
    """A folder with eight stored heads for the teacher and four to judge by, for networks of `size` pixels; made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="heads"))
    atexit.register(shutil.rmtree, folder)
    teacher.build(folder, PARAMS.preprocess.model_copy(update={"pixels": size}), workers=1)
    return folder


def make(folder: Path, *, size: int = 32, **train: object) -> Path:
    """A project in `folder` as the preprocess stage leaves it; `train` changes that section of its params.yaml."""
    content = _small()
    content["preprocess"] |= {"pixels": size}  # type: ignore[operator]
    content["train"] |= train  # type: ignore[operator]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    random, rows = np.random.default_rng(0), []
    with new_folder(folder / "data/slices") as slices:
        slice_arrays.write_preprocessing(slices, params.parse(content, "tests").preprocess)
        for split, count in (("train", 7), ("val", 3)):
            for modality in ("ct", "mr"):
                np.save(slices / f"{split}_{modality}.npy", random.integers(0, 2**16, (count, size, size), dtype=np.uint16))
                rows += [{"split": split, "modality": modality, "row": row, "contrast": ("t1", "t2", "")[row % 3]} for row in range(count)]
        windows = [KNOWN[line["row"] % 2] for line in rows]
        pd.DataFrame(rows).assign(intensity_low=[low for low, _ in windows], intensity_high=[high for _, high in windows]).to_parquet(
            slices / "index.parquet"
        )
        shutil.copytree(simulated_heads(size), slices, dirs_exist_ok=True)
    return folder


def pair_up(slices: Path) -> Path:
    """Make registered pairs of the slices in `slices`, row by row, each other side known in full; gives the folder."""
    index = pd.read_parquet(slices / "index.parquet")
    index.assign(pair=index["row"]).to_parquet(slices / "index.parquet")
    for split in ("train", "val"):
        for modality in ("ct", "mr"):
            stored = np.load(slices / f"{split}_{modality}.npy")
            for kind, other in zip(paths.partner_kinds(split), (stored, np.full_like(stored, 65535)), strict=True):
                np.save(slices / f"{kind}_{modality}.npy", other)
    return slices


def environment(folder: Path) -> dict[str, str]:
    """What a command sees that runs in the project `folder`."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "GIT_CEILING_DIRECTORIES": str(folder.parent)}


def start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """The train stage as dvc starts it, with `variables` in its environment."""
    if not (folder / "mlruns/mlflow.db").exists():
        make_store(folder)
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env={**environment(folder), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder: Path, expect: int = 0, **variables: str) -> str:
    """Run the train stage to its end, with `variables` in its environment; gives what it printed."""
    process = start(folder, **variables)
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == expect, printed
    return printed
