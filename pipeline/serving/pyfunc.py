"""The model that MLflow stores, loads and serves: the translator behind `predict`.

MLflow copies this file and runs it; nothing is unpickled. `mlflow models serve` answers pixels, `{"inputs": [[[0.1, ...], ...], ...]}`,
and picture files in Base64 as the parameter `image`.
"""

import base64
import binascii
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipeline.errors import UserError
from pipeline.formats.slices import Slice
from pipeline.formats.table import read_volume
from pipeline.serving.translator import Translator


class TranslationModel(PythonModel):  # type: ignore[misc]
    """Translates slices (N, H, W) of any size to slices of the same size."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the generator from the artifact `translator`: a folder with model.json and safetensors."""
        folder = Path(context.artifacts["translator"])
        (weights,) = folder.glob("*.safetensors")
        self.translator = Translator.from_folder(folder, weights.stem)

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Slices (N, H, W): pictures in 0..1, or intensities as they stand in DICOM or NIfTI when `params["unit"]` is "physical".

        The result is (N, H, W) float32 in 0..1, Hounsfield units for CT from physical intensities. `params["contrast"]` is the MR
        contrast wanted (t1, t2, flair, pd, empty: any). `params["image"]`: a picture file in Base64 instead of `model_input`.
        """
        params = params or {}
        physical = params.get("unit", "picture") == "physical"
        if params.get("image"):
            slices, physical = _decoded(params["image"])
        else:
            unit = "hu" if physical and self.translator.source == "ct" else "grey"
            slices = [Slice(np.ascontiguousarray(one, np.float32), unit=unit) for one in np.asarray(model_input)]  # type: ignore[arg-type]
            if any(one.pixels.size == 0 for one in slices):
                raise UserError("inputs: no pixels; expected slices (N, H, W), or a picture file in Base64 as params.image")
        translation = self.translator.translate_slices(slices, params.get("contrast") or None, hounsfield=physical)
        return np.stack(translation.images)


def _decoded(image: str) -> tuple[list[Slice], bool]:
    try:
        content = base64.b64decode(image, validate=True)
    except binascii.Error:
        raise UserError("params.image: not Base64") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        file.write_bytes(content)
        volume = read_volume(file)
    return volume.slices, volume.calibrated


mlflow.models.set_model(TranslationModel())
