"""The ONNX graph of every generator against torch, and what runs it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from pipeline.atomic import write_json
from pipeline.errors import UserError
from pipeline.models.generator import build_generator, save_weights
from pipeline.models.graph import build_graph
from pipeline.models.inference import load_generator, translate
from pipeline.models.runtime import OnnxGenerator, load_onnx
from pipeline.models.uncertainty import estimate_uncertainty
from pipeline.params import Model

TOLERANCE = 1e-4  # on the networks' scale, -1 to 1, in single precision
SHAPES = {"resnet_6": (5, 36, 28), "resnet_9": (2, 32, 32), "unet_128": (2, 128, 128), "unet_256": (1, 256, 256)}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These networks are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


def draw_network(model: Model, direction: str, images: np.ndarray, contrast: str = "") -> nn.Module:
    """A generator whose layers all matter and whose answers to `images` spread over the range."""
    torch.manual_seed(0)
    network = build_generator(model, direction).eval()
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            nn.init.kaiming_normal_(value)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0.2 if "bias" not in name else 0, 0.2)
    last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)][-1]
    seen: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    translate(network, images, contrast)
    hook.remove()
    spread, middle = torch.std_mean(torch.cat(seen))
    with torch.no_grad():
        last.weight.div_(2 * spread)
        last.bias.sub_(middle).div_(2 * spread)
    return network


def graph_of(network: nn.Module, model: Model, direction: str) -> onnx.ModelProto:
    return build_graph(model, direction, {name: value.numpy() for name, value in network.state_dict().items()})


def apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference on the networks' scale."""
    return float(2 * np.abs(mine - theirs).max())


@pytest.mark.parametrize("upsampling", ["transpose", "resize"])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("generator", SHAPES)
def test_every_generator_gives_what_torch_gives(generator: str, norm: str, upsampling: str) -> None:
    images = np.random.default_rng(0).random(SHAPES[generator], np.float32)
    model = Model(generator=generator, generator_width=2, norm=norm, upsampling=upsampling)
    network = draw_network(model, "ct_to_mr", images, "t2")
    runtime = OnnxGenerator(graph_of(network, model, "ct_to_mr"))
    answers = {contrast: runtime.translate(images, contrast) for contrast in ("t2", "pd")}
    assert answers["t2"].std() > 0.1
    assert apart(answers["t2"], answers["pd"]) > 0.01
    for contrast, answer in answers.items():
        assert apart(answer, translate(network, images, contrast)) < TOLERANCE


@pytest.mark.parametrize(("direction", "conditional"), [("mr_to_ct", True), ("ct_to_mr", False)])
def test_a_generator_that_takes_no_contrast(direction: str, conditional: bool) -> None:
    images = np.random.default_rng(0).random((2, 32, 32), np.float32)
    model = Model(generator_width=2, condition_on_contrast=conditional)
    network = draw_network(model, direction, images)
    graph = graph_of(network, model, direction)
    assert [value.name for value in graph.graph.input] == ["image"]
    assert apart(OnnxGenerator(graph).translate(images), translate(network, images)) < TOLERANCE


def test_the_graph_says_what_it_takes() -> None:
    model = Model(generator_width=2)
    graph = graph_of(build_generator(model, "ct_to_mr"), model, "ct_to_mr")
    onnx.checker.check_model(graph, full_check=True)
    shapes = {value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in graph.graph.input}
    assert shapes == {"image": ["batch", 1, "height", "width"], "contrast": ["batch", 4]}
    assert graph.opset_import[0].version == 18


def test_contrasts_may_differ_from_slice_to_slice() -> None:
    images = np.random.default_rng(0).random((6, 256, 256), np.float32)  # several calls
    model = Model(generator_width=2)
    runtime = OnnxGenerator(graph_of(draw_network(model, "ct_to_mr", images[:1, :32, :32]), model, "ct_to_mr"))
    names = ["t1", "", "t2", "flair", "pd", "t1"]
    answers = runtime.translate(images, names)
    for image, name, answer in zip(images, names, answers, strict=True):
        assert np.array_equal(runtime.translate(image[None], name)[0], answer)
    assert runtime.translate(images[:0], names[:0]).shape == (0, 256, 256)


def test_uncertainty_is_that_of_torch() -> None:
    images = np.random.default_rng(0).random((1, 32, 32), np.float32)
    model = Model(generator_width=2)
    network = draw_network(model, "mr_to_ct", images)
    mine, theirs = (
        estimate_uncertainty(work, images)
        for work in (OnnxGenerator(graph_of(network, model, "mr_to_ct")).translate, lambda images: translate(network, images))
    )
    assert mine.max() > 0.01
    assert apart(mine, theirs) < TOLERANCE


def test_half_precision_weights_are_read_as_torch_reads_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((1, 32, 32), np.float32)
    model = Model(generator_width=2)
    network = draw_network(model, "mr_to_ct", images)
    save_weights(tmp_path / "w.safetensors", network, half=True)
    write_json(tmp_path / "model.json", {"model": model.model_dump(), "directions": {"mr_to_ct": {"weights": "w.safetensors"}}})
    expected = translate(load_generator(tmp_path, "mr_to_ct"), images)
    assert apart(load_onnx(tmp_path, "mr_to_ct").translate(images), expected) < TOLERANCE
    assert apart(translate(network, images), expected) > TOLERANCE
    for damaged, content in (("w.safetensors", b"cut off"), ("model.json", b"[]")):
        (tmp_path / damaged).write_bytes(content)
        for load in (load_onnx, load_generator):
            with pytest.raises(UserError, match="no usable model for mr_to_ct"):
                load(tmp_path, "mr_to_ct")


def test_weights_that_do_not_fit_are_named() -> None:
    model = Model(generator_width=2)
    weights = {name: value.numpy() for name, value in build_generator(model, "mr_to_ct").state_dict().items()}
    with pytest.raises(ValueError, match=r"encode.1.weight is of shape \(2, 1, 7, 7\); .* needs shape \(4, 1, 7, 7\)"):
        build_graph(Model(generator_width=4), "mr_to_ct", weights)
    with pytest.raises(ValueError, match=r"modulate.weight is missing"):
        build_graph(model, "ct_to_mr", weights)
    with pytest.raises(ValueError, match=r"blocks.6.first.1.bias, .* do not belong to model.generator = resnet_6"):
        build_graph(model, "mr_to_ct", {**weights, "blocks.6.first.1.bias": weights["encode.1.bias"], "more": weights["encode.1.bias"]})
