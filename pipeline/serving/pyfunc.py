"""The model that MLflow stores, loads and serves: the translator behind `predict`.

MLflow copies this file and runs it; nothing is unpickled. `mlflow models serve` answers pixels, `{"inputs": [[[0.1, ...], ...], ...]}`,
and picture files in Base64 as the parameter `image`.
"""

import base64
import binascii
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipeline.errors import UserError
from pipeline.formats.slices import Slice, Unit
from pipeline.formats.values import CtValues, interpret_slices, parse_ct_values
from pipeline.serving.translator import Translator

PARAMS = ("unit", "contrast", "image", "ct_values")


class TranslationModel(PythonModel):  # type: ignore[misc]
    """Translates slices (N, H, W) of any size to slices of the same size."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the generator from the artifact `translator`: a folder with model.json and safetensors."""
        folder = Path(context.artifacts["translator"])
        (weights,) = folder.glob("*.safetensors")
        self.translator = Translator.from_folder(folder, weights.stem)
        _refuse_unknown_params()

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Slices (N, H, W): pictures in 0..1, or intensities as they stand in DICOM or NIfTI when `params["unit"]` is "physical".

        The result is (N, H, W) float32 in 0..1, Hounsfield units for CT from physical intensities. `params["contrast"]` is the MR
        contrast wanted (t1, t2, flair, pd, empty: any). `params["image"]`: a picture file in Base64 instead of `model_input`.
        `params["ct_values"]`: what the numbers of a CT are (auto, hu, offset-1024, grey), where they do not tell.
        """
        params = params or {}
        ct_values = parse_ct_values(params.get("ct_values") or "auto", "params.ct_values =")
        if params.get("image"):
            slices, physical = _decode_image(self.translator, params["image"], ct_values)
        else:
            unit, source = params.get("unit", "picture"), self.translator.source
            if unit not in ("picture", "physical"):
                raise UserError(f"params.unit = {unit}: expected picture (values in 0..1) or physical (as in DICOM and NIfTI)")
            physical = unit == "physical"
            slices = _as_slices(np.asarray(model_input), "grey" if not physical else "hu" if source == "ct" else "raw")
            if physical:
                slices, _ = interpret_slices(slices, "inputs", source, ct_values)
                if slices[0].modality == self.translator.target:
                    raise UserError(f"inputs: {self.translator.target.upper()} by their values; this model translates {source.upper()}")
            else:
                _check_picture_range(slices)
        translation = self.translator.translate_slices(slices, params.get("contrast") or None, hounsfield=physical)
        return np.stack(translation.images)


def _as_slices(pixels: np.ndarray, unit: Unit) -> list[Slice]:
    if pixels.ndim != 3 or pixels.size == 0:
        raise UserError(f"inputs of shape {pixels.shape}: expected slices (N, H, W), or a picture file in Base64 as params.image")
    if pixels.dtype.kind not in "biuf":
        raise UserError(f"inputs of type {pixels.dtype}: expected one number a pixel")
    if not np.isfinite(pixels).all():
        raise UserError("inputs: some values are no numbers; expected finite ones")
    return [Slice(np.ascontiguousarray(image, np.float32), unit=unit) for image in pixels]


def _check_picture_range(slices: list[Slice]) -> None:
    low, high = min(float(slice_.pixels.min()) for slice_ in slices), max(float(slice_.pixels.max()) for slice_ in slices)
    if not (low >= -0.001 and high <= 1.001):
        expected = "expected pictures in 0..1 (divide 8-bit values by 255), or params.unit = physical"
        raise UserError(f"inputs from {low:g} to {high:g}: {expected}")


def _decode_image(translator: Translator, image: str, ct_values: CtValues) -> tuple[list[Slice], bool]:
    try:
        content = base64.b64decode(image, validate=True)
    except binascii.Error:
        raise UserError("params.image: not Base64") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        file.write_bytes(content)
        volume = translator.read(file, ct_values)
    return volume.slices, volume.calibrated


def _refuse_unknown_params() -> None:
    """Refuse params that the signature lacks by name: MLflow drops them, with a line in a log that the caller never sees."""
    loaded: Any = import_module("mlflow.pyfunc")  # there is no other place: a model's own code sees params after MLflow has dropped some
    enforce = loaded._enforce_params_schema

    def enforce_names(params: dict[str, Any] | None, schema: Any) -> Any:
        known = {param.name for param in schema.params} if schema else set()
        unknown = sorted(map(str, set(params or {}) - known))
        if unknown and known == set(PARAMS):  # other models may be loaded in the same process
            raise UserError(f"params.{unknown[0]}: no such parameter; expected {', '.join(PARAMS)}")
        return enforce(params, schema)

    loaded._enforce_params_schema = enforce_names


mlflow.models.set_model(TranslationModel())
