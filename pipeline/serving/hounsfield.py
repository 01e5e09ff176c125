"""The translator as a function from an MR volume to a CT volume, for scores against registered CT."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.domain import Direction, Modality
from pipeline.evaluation.baselines import mean_picture
from pipeline.formats.volume import Volume
from pipeline.serving.translator import Translator

Images = NDArray[np.float32]


def hounsfield_translations(models: Path) -> dict[str, Callable[[Volume], Images]]:
    """Functions from an MR volume to CT in HU on its voxels: by the models in a folder, and by the mean of the training slices, if any."""
    means = {"model": False} | ({"mean_picture": True} if paths.slices("train", Modality.CT).is_file() else {})
    return {name: partial(_translate, models, mean) for name, mean in means.items()}


def _translate(models: Path, mean: bool, volume: Volume) -> Images:
    translator = Translator.from_folder(models, Direction.MR_TO_CT)
    if mean:
        translator.generator = mean_picture(translator.target)
    view, translation = translator.translate_volume(volume)
    return view.restore(np.stack(translation.images), translation.unit == "hu")
