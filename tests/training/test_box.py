"""The model in the box: from simulated heads alone, stopped and gone on with, the same weights as without a stop."""

import threading
from pathlib import Path

import pytest
import torch

from pipeline import params, presets
from pipeline.domain import DIRECTIONS
from pipeline.models.generator import build_generator
from pipeline.models.inference import load_generator
from pipeline.params import Params
from pipeline.training.box import train_box
from tests.training import jobs

CONTENT = params.parse(presets.nest(presets.complete(["box"])), "box")


@pytest.fixture
def small() -> Params:
    """The preset with networks, heads and budget cut down."""
    train = CONTENT.train.model_copy(
        update={"teacher": CONTENT.train.teacher.model_copy(update={"images": 24}), "threads": 1, "sample_images": 12}
    )
    model = CONTENT.model.model_copy(update={"generator_width": 4})
    return CONTENT.model_copy(update={"train": train, "model": model, "preprocess": jobs.PARAMS.preprocess})


def weights(folder: Path) -> list[bytes]:
    return [(folder / f"{direction}.safetensors").read_bytes() for direction in DIRECTIONS]


def test_it_is_trained_without_slices_and_goes_on_where_it_was_stopped(small: Params, tmp_path: Path) -> None:
    stop = threading.Event()
    assert train_box(small, tmp_path / "whole", tmp_path / "work", stop) == (6, 6)
    stop.set()  # ends after the step at work
    done, steps = train_box(small, tmp_path / "box", tmp_path / "other", stop)
    assert (done, steps) == (1, 6)
    assert weights(tmp_path / "box") != weights(tmp_path / "whole")
    stop.clear()
    assert train_box(small, tmp_path / "box", tmp_path / "other", stop) == (6, 6)
    assert weights(tmp_path / "box") == weights(tmp_path / "whole")
    network = load_generator(tmp_path / "box", "mr_to_ct")
    assert next(network.parameters()).dtype == torch.float32  # stored in half precision


def test_both_directions_take_ten_megabytes_at_most() -> None:
    numbers = sum(weight.numel() for direction in DIRECTIONS for weight in build_generator(CONTENT.model, direction).parameters())
    assert 2 * numbers < 10e6
    assert CONTENT.preprocess.pixels >= 128
    assert CONTENT.preprocess.field_of_view is not None
    assert CONTENT.preprocess.field_of_view / CONTENT.preprocess.pixels <= 2
