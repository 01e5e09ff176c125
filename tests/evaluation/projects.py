"""A store of test slices and two generators of random weights, as the graph leaves them before the evaluate stage."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from pipeline import params, paths
from pipeline.atomic import write_json
from pipeline.models.generator import build_generator, save_weights
from tests.training import jobs

RULES = params.Evaluate(bootstrap=100, batch_size=4, examples=3, seed=0)


def make(
    folder: Path, images: dict[str, NDArray[np.uint8]], *, pairs: int | None = None, window: float = 1.0, model: params.Model | None = None
) -> Path:
    """A project in `folder` whose test slices are `images` (by modality, (N, H, W)), the first `pairs` (None: all) of them registered.

    `window`: Hounsfield units from black to white of every CT, 1: not known. Two slices make a group. The training slices are the test's.
    """
    size = images["ct"].shape[-1]
    slices, models = folder / paths.SLICES, folder / paths.MODELS
    for made in (slices, models):
        made.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(yaml.safe_load((jobs.SOURCE / "params.yaml").read_text())))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    known = len(images["ct"]) if pairs is None else pairs
    rows = []
    for modality, pictures in images.items():
        np.save(slices / f"test_{modality}.npy", pictures)
        np.save(slices / f"train_{modality}.npy", pictures)
        if known:
            np.save(slices / f"truth_{modality}.npy", pictures[:known])
        for row in range(len(pictures)):
            facts = {"slice_id": f"{modality}{row}", "group": f"patient {row // 2}", "contrast": ("t1", "t2")[row % 2]}
            seen = {"intensity_low": 0.0, "intensity_high": window if modality == "ct" else 1.0}
            rows.append({"split": "test", "modality": modality, "row": row, "pair": row if row < known else -1, **facts, **seen})
    pd.DataFrame(rows).to_parquet(slices / "index.parquet")
    networks = model or jobs.PARAMS.model
    torch.manual_seed(0)
    for direction in paths.DIRECTIONS:
        save_weights(models / f"{direction}.safetensors", build_generator(networks, direction))
    preprocess = jobs.PARAMS.preprocess.model_copy(update={"pixels": size})
    sections = {"model": networks.model_dump(mode="json"), "preprocess": preprocess.model_dump(mode="json")}
    write_json(models / "model.json", {**sections, "directions": {name: {"weights": f"{name}.safetensors"} for name in paths.DIRECTIONS}})
    return folder
