"""A project as the preprocess stage leaves it, of random slices and a few simulated heads: data for what needs no meaning."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pipeline import params, paths
from pipeline.dataset import slice_arrays, teacher
from pipeline.imaging.intensity import CT_HIGHEST, CT_LOWEST

PROJECT = Path(__file__).parents[1]
SLICES = 8  # of each modality and split
CONTRASTS = ("t1", "t2", "")


def make_project(folder: Path, settings: dict[str, object], heads: int = 4) -> params.Params:
    """Write params.yaml, with `settings` such as train.images, and data/slices into `folder`; 0 `heads`: no teacher. Gives the params."""
    content = params.read_yaml(PROJECT / "params.yaml")
    for name, value in {"preprocess.teacher_pairs": heads, **settings}.items():
        *sections, knob = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[knob] = value
    made = params.parse(content, "benchmark")
    slices = folder / paths.SLICES
    slices.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(made.model_dump(mode="json", by_alias=True)))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    slice_arrays.write_preprocessing(slices, made.preprocess)
    write_arrays(slices, made.preprocess.pixels)
    teacher.build(slices, made.preprocess, workers=1)
    return made


def write_arrays(folder: Path, pixels: int) -> None:
    """Smooth random slices, and the index that says of each what it is."""
    random, lines = np.random.default_rng(0), []
    for split in ("train", "val"):
        for modality in ("ct", "mr"):
            coarse = random.integers(0, 2**16, (SLICES, pixels // 8, pixels // 8), dtype=np.uint16)
            np.save(folder / f"{split}_{modality}.npy", coarse.repeat(8, 1).repeat(8, 2))
            lines += [{"split": split, "modality": modality, "row": row, "contrast": CONTRASTS[row % 3]} for row in range(SLICES)]
    pd.DataFrame(lines).assign(intensity_low=float(CT_LOWEST), intensity_high=float(CT_HIGHEST)).to_parquet(folder / "index.parquet")
