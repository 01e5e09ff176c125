"""A generator as an ONNX graph, made from its params and its weights as they lie in safetensors. Needs no torch.

The graph computes what `pipeline.models.generator` does, in float32, for any batch and size. Weights keep their names.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pipeline.models.architecture import BLOCKS, HALVINGS, count_conditions, unet_widths
from pipeline.params import Model

OPSET = 18  # of ONNX's operators (github.com/onnx/onnx, docs/Operators.md)
FORMAT = 9  # ONNX's file format; with OPSET, read by onnxruntime 1.15 and later
IMAGE, CONTRAST, TRANSLATION = "image", "contrast", "translation"  # names of inputs and output
EPSILON = 1e-5  # PyTorch's default in its norms

Weights = Mapping[str, NDArray[Any]]


def build_graph(model: Model, direction: str, weights: Weights) -> ModelProto:
    """The generator of `direction`: `image` (N, 1, H, W) in [-1, 1] to `translation` of the same shape and range.

    CT→MR generators that heed the contrast also take `contrast` (N, 4), as `pipeline.domain.encode_contrast` makes its rows.
    Raises ValueError where `weights` are not those of such a generator.
    """
    layers = _Layers(model, count_conditions(model, direction), weights)
    result = layers.unet(HALVINGS[model.generator]) if model.generator in HALVINGS else layers.resnet(BLOCKS[model.generator])
    if layers.weights:
        raise ValueError(f"weights {', '.join(sorted(layers.weights))} do not belong to model.generator = {model.generator}")
    layers.add("Tanh", result, name=TRANSLATION)
    picture: list[str | int | None] = ["batch", 1, "height", "width"]
    inputs = [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, picture)]
    if layers.conditions:
        inputs.append(helper.make_tensor_value_info(CONTRAST, TensorProto.FLOAT, ["batch", layers.conditions]))
    outputs = [helper.make_tensor_value_info(TRANSLATION, TensorProto.FLOAT, picture)]
    graph = helper.make_graph(layers.nodes, direction, inputs, outputs, layers.arrays)
    return helper.make_model(graph, producer_name="ctmr", ir_version=FORMAT, opset_imports=[helper.make_opsetid("", OPSET)])


class _Layers:
    """A graph as it grows, layer by layer. Layers are named as their torch twins, and each gives the name of its result."""

    def __init__(self, model: Model, conditions: int, weights: Weights) -> None:
        self.model, self.conditions, self.weights = model, conditions, dict(weights)
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []

    def add(self, operator: str, *inputs: str | NDArray[Any], name: str = "", **attributes: Any) -> str:
        """Add an operator; arrays among its inputs become constants of the graph."""
        name = name or f"{operator}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._store(value, f"{name}_{place}") for place, value in enumerate(inputs)]
        self.nodes.append(helper.make_node(operator, names, [name], name, **attributes))
        return name

    def take(self, name: str, *shape: int) -> str:
        """The weight `name`, in float32. Raises ValueError where it is missing or has another shape."""
        weight = self.weights.pop(name, None)
        if weight is None or weight.shape != shape:
            has = "missing" if weight is None else f"of shape {weight.shape}"
            raise ValueError(f"weight {name} is {has}; model.generator = {self.model.generator} needs shape {shape}")
        return self._store(weight.astype(np.float32), name)

    def _store(self, array: NDArray[Any], name: str) -> str:
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def resnet(self, blocks: int) -> str:
        """`ResidualGenerator`, up to its tanh."""
        width = self.model.generator_width
        hidden = self._act(self._norm(self._conv(self._pad(IMAGE, 3), "encode.1", 1, width, 7), "encode.2", width))
        for place, wide in ((4, width), (7, 2 * width)):
            hidden = self._conv(hidden, f"encode.{place}", wide, 2 * wide, 3, strides=[2, 2], pads=[1] * 4)
            hidden = self._act(self._norm(hidden, f"encode.{place + 1}", 2 * wide))
        for block in range(blocks):
            hidden = self._residual_block(hidden, f"blocks.{block}", 4 * width)
        for place, wide in ((0, 4 * width), (3, 2 * width)):
            hidden = self._upsample(hidden, f"decode.{place}", wide, wide // 2, 3)
            hidden = self._act(self._norm(hidden, f"decode.{place + 1}", wide // 2))
        return self._conv(self._pad(hidden, 3), "decode.7", width, 1, 7)

    def _residual_block(self, hidden: str, name: str, width: int) -> str:
        between = self._norm(self._conv(self._pad(hidden, 1), f"{name}.first.1", width, width, 3), f"{name}.first.2", width)
        between = self._act(self._modulate(between, f"{name}.modulate", width))
        second = self._norm(self._conv(self._pad(between, 1), f"{name}.second.2", width, width, 3), f"{name}.second.3", width)
        return self.add("Add", hidden, second)

    def unet(self, depth: int) -> str:
        """`UNet`, up to its tanh."""
        widths = unet_widths(depth, self.model.generator_width)
        hidden, skips = IMAGE, []
        for level, wide in enumerate(widths):
            if level:
                hidden = self.add("LeakyRelu", hidden, alpha=0.2)
            name, above = f"down.{level}.{int(level > 0)}", widths[level - 1] if level else 1
            hidden = self._conv(hidden, name, above, wide, 4, strides=[2, 2], pads=[1] * 4)
            if 0 < level < depth - 1:
                hidden = self._norm(hidden, f"down.{level}.2", wide)
            skips.append(hidden)
        skips.pop()
        for place, level in enumerate(reversed(range(depth))):
            wide = widths[level] * (2 if place else 1)
            narrow = widths[level - 1] if level else 1
            hidden = self._upsample(self._act(hidden), f"up.{place}.1", wide, narrow, 4)
            if level:
                hidden = self._modulate(self._norm(hidden, f"up.{place}.2", narrow), f"modulate.{place}", narrow)
                hidden = self.add("Concat", hidden, skips.pop(), axis=1)
        return hidden

    def _conv(self, hidden: str, name: str, wide: int, narrow: int, kernel: int, **attributes: Any) -> str:
        weight, bias = self.take(f"{name}.weight", narrow, wide, kernel, kernel), self.take(f"{name}.bias", narrow)
        return self.add("Conv", hidden, weight, bias, **attributes)

    def _pad(self, hidden: str, width: int) -> str:
        return self.add("Pad", hidden, np.array([0, 0, width, width] * 2), mode="reflect")

    def _act(self, hidden: str) -> str:
        return self.add("Relu", hidden)

    def _norm(self, hidden: str, name: str, width: int) -> str:
        if self.model.norm == "none":
            return hidden
        if self.model.norm == "instance":
            flat = np.ones(width, np.float32), np.zeros(width, np.float32)
            return self.add("InstanceNormalization", hidden, *flat, epsilon=EPSILON)
        self.weights.pop(f"{name}.num_batches_tracked", None)  # counts steps of training
        parts = (self.take(f"{name}.{part}", width) for part in ("weight", "bias", "running_mean", "running_var"))
        return self.add("BatchNormalization", hidden, *parts, epsilon=EPSILON)

    def _upsample(self, hidden: str, name: str, wide: int, narrow: int, kernel: int) -> str:
        if self.model.upsampling == "transpose":
            weight, bias = self.take(f"{name}.weight", wide, narrow, kernel, kernel), self.take(f"{name}.bias", narrow)
            more = [int(kernel == 3)] * 2
            return self.add("ConvTranspose", hidden, weight, bias, strides=[2, 2], pads=[1] * 4, output_padding=more)
        double = np.array([1, 1, 2, 2], np.float32)
        nearest = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self._conv(self._pad(self.add("Resize", hidden, "", double, **nearest), 1), f"{name}.2", wide, narrow, 3)

    def _modulate(self, hidden: str, name: str, width: int) -> str:
        if not self.conditions:
            return hidden
        both = self.add("Gemm", CONTRAST, self.take(f"{name}.weight", 2 * width, self.conditions), transB=1)
        planes = self.add("Reshape", both, np.array([0, 2 * width, 1, 1]))
        scale, shift = f"{planes}_scale", f"{planes}_shift"
        self.nodes.append(helper.make_node("Split", [planes], [scale, shift], f"{planes}_split", axis=1, num_outputs=2))
        more = self.add("Mul", hidden, self.add("Add", scale, np.ones((1, 1, 1, 1), np.float32)))
        return self.add("Add", more, shift)
