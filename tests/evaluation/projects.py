"""A store of test slices and two generators of random weights, as the graph leaves them before the evaluate stage."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from pipeline import paths
from pipeline.atomic import write_json
from pipeline.dataset import slice_arrays
from pipeline.domain import DIRECTIONS, Modality
from pipeline.imaging.intensity import ct_to_unit
from pipeline.models.generator import build_generator, save_weights
from pipeline.params import Evaluate, Model
from tests.training import jobs

PARAMS = Evaluate(batch_size=4, examples=3)


def make_project(
    folder: Path, images: dict[Modality, NDArray[np.uint8]], *, pairs: int | None = None, window: float = 1.0, model: Model | None = None
) -> Path:
    """A project in `folder` whose test slices are `images` (by modality, (N, H, W)), the first `pairs` (None: all) of them registered.

    `window`: Hounsfield units from black to white of every CT, 1: not known. Two slices make a group. The training slices are the test's.
    """
    size = images[Modality.CT].shape[-1]
    slices, models = folder / paths.SLICES, folder / paths.MODELS
    for created in (slices, models):
        created.mkdir(parents=True)
    content = yaml.safe_load((jobs.SOURCE / "params.yaml").read_text())
    content["preprocess"] |= jobs.PARAMS.preprocess.model_dump(mode="json") | {"pixels": size}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    paired = len(images[Modality.CT]) if pairs is None else pairs
    rows = []
    for modality, shown in images.items():
        pictures = as_stored(shown, modality)
        np.save(slices / f"test_{modality}.npy", pictures)
        np.save(slices / f"train_{modality}.npy", pictures)
        if paired:
            np.save(slices / f"truth_{modality}.npy", pictures[:paired])
        for row in range(len(pictures)):
            facts = {
                "slice_id": f"{modality}{row}",
                "path": f"{modality}/{row}.png",
                "frame": 0,
                "group": f"patient {row // 2}",
                "contrast": ("t1", "t2")[row % 2],
            }
            low, high = (0.0, 1.0) if modality == "mr" else (0.0, 80.0) if window == 1 else (-1000.0, 3000.0)
            seen = {"intensity_low": low, "intensity_high": high}
            rows.append({"split": "test", "modality": modality, "row": row, "pair": row if row < paired else -1, **facts, **seen})
    pd.DataFrame(rows).to_parquet(slices / "index.parquet")
    networks = model or jobs.PARAMS.model
    torch.manual_seed(0)
    for direction in DIRECTIONS:
        save_weights(models / f"{direction}.safetensors", build_generator(networks, direction))
    preprocess = jobs.PARAMS.preprocess.model_copy(update={"pixels": size})
    sections = {"model": networks.model_dump(mode="json"), "preprocess": preprocess.model_dump(mode="json")}
    slice_arrays.write_preprocessing(slices, preprocess)
    digests = {name: hashlib.sha256((models / f"{name}.safetensors").read_bytes()).hexdigest() for name in DIRECTIONS}
    directions = {name: {"weights": f"{name}.safetensors", "sha256": digest} for name, digest in digests.items()}
    write_json(models / "model.json", {**sections, "directions": directions})
    return folder


def as_stored(shown: NDArray[np.uint8], modality: str) -> NDArray[np.uint16]:
    """Pictures as displayed, CT in the window from 0 to 80 HU, as preprocess stores them."""
    image = np.float32(shown) / 255
    return slice_arrays.quantise(ct_to_unit(80 * image) if modality == Modality.CT else image)
