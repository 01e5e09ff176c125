"""Trained generators at work on onnxruntime: translation needs no torch."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.domain import encode_contrast
from pipeline.models.folder import read_weights, refuse
from pipeline.models.graph import CONTRAST, IMAGE, TRANSLATION, build_graph
from pipeline.params import Model

Images = NDArray[np.float32]

PIXELS_AT_ONCE = 2**16  # of one call: 4 slices of 128×128, one of 256×256; more takes memory and is not faster
_SILENT = 4  # onnxruntime's own log: nothing but its death; errors reach the caller anyway


class OnnxGenerator:
    """A generator on the CPU's cores, or on as many as $OMP_NUM_THREADS says."""

    def __init__(self, graph: ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        asked = os.environ.get("OMP_NUM_THREADS", "")
        options.intra_op_num_threads = int(asked) if asked.isdecimal() and int(asked) else len(os.sched_getaffinity(0))
        options.log_severity_level = _SILENT
        # Threads that wait for work would keep the cores busy, which other programs want too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._conditional = CONTRAST in {value.name for value in self._session.get_inputs()}

    def translate(self, images: Images, contrast: Sequence[str] | str | None = None) -> Images:
        """Translate `images` (N, H, W) in 0..1 to the same shape and range; `contrast` names the wanted MR contrast, "" where unknown.

        Raises MemoryError where there is not enough for it.
        """
        names = [contrast or ""] * len(images) if contrast is None or isinstance(contrast, str) else list(contrast)
        result = np.empty(images.shape, np.float32)
        count = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
        for start in range(0, len(images), count):
            part = slice(start, start + count)
            inputs = {IMAGE: np.asarray(images[part], np.float32)[:, None] * 2 - 1}
            if self._conditional:
                inputs[CONTRAST] = np.array([encode_contrast(name) for name in names[part]], np.float32)
            result[part] = (self._run(inputs)[:, 0] + 1) / 2
        return result

    def _run(self, inputs: dict[str, Images]) -> Images:
        try:
            (output,) = self._session.run([TRANSLATION], inputs)
        except Exception as error:  # onnxruntime's have no base class of their own, and none for memory
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError(str(error)) from None
            raise
        result: Images = output
        return result


def load_onnx(folder: Path, direction: str) -> OnnxGenerator:
    """The generator of `direction`. Raises UserError when model.json or the weights are missing or don't fit."""
    return OnnxGenerator(load_graph(folder, direction))


def load_graph(folder: Path, direction: str) -> ModelProto:
    """The generator of `direction` as an ONNX model; to hand it to another program: `onnx.save(load_graph(…), "mr_to_ct.onnx")`.

    Raises UserError as `load_onnx`.
    """
    try:
        facts, file = read_weights(folder, direction)
        return build_graph(Model.model_validate(facts["model"]), direction, load_file(file))
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise refuse(folder, direction, error) from None
