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
    translations: dict[str, Callable[[Volume], Images]] = {"model": partial(_translate, models)}
    if paths.slices("train", Modality.CT).is_file():
        translations["mean_picture"] = partial(_translate, models, by_mean=True)
    return translations


def _translate(models: Path, volume: Volume, by_mean: bool = False) -> Images:
    """CT (I, J, K) in HU on the voxels of `volume`; `by_mean`: every slice is the mean of the training slices, framed as the model's."""
    translator = Translator.from_folder(models, Direction.MR_TO_CT)
    if by_mean:
        translator.generator = mean_picture(translator.target)
    view, translation = translator.translate_volume(volume)
    return view.restore(np.stack(translation.images), translation.unit == "hu")
