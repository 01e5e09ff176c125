"""The model in the box: from simulated heads alone, stopped and gone on with, the same weights as without a stop."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from pipeline import params, paths, presets
from pipeline.domain import DIRECTIONS
from pipeline.errors import UserError
from pipeline.models.generator import build_generator
from pipeline.models.inference import load_generator
from pipeline.params import Params
from pipeline.processes import Stop
from pipeline.training.box import train_box
from pipeline.training.checkpoint import job_digest
from pipeline.training.feed import Data
from pipeline.training.loop import Training
from tests.training import jobs

CPU = torch.device("cpu")

CONTENT = params.parse(presets.nest(presets.complete(["box"])), "box")


@pytest.fixture
def small() -> Params:
    """The preset with networks, heads and budget cut down."""
    train = CONTENT.train.model_copy(
        update={"teacher": CONTENT.train.teacher.model_copy(update={"images": 24}), "threads": 1, "sample_images": 12, "start_from": None}
    )
    model = CONTENT.model.model_copy(update={"generator_width": 4})
    return CONTENT.model_copy(update={"train": train, "model": model, "preprocess": jobs.PARAMS.preprocess})


def weights(folder: Path) -> list[bytes]:
    return [(folder / f"{direction}.safetensors").read_bytes() for direction in DIRECTIONS]


def test_it_is_trained_without_slices_and_goes_on_where_it_was_stopped(small: Params, tmp_path: Path) -> None:
    stop = Stop()
    assert train_box(small, tmp_path / "whole", tmp_path / "work", stop) == (6, 6)
    stop.set()  # ends after the step at work
    done, steps = train_box(small, tmp_path / "box", tmp_path / "other", stop)
    assert (done, steps) == (1, 6)
    assert weights(tmp_path / "box") != weights(tmp_path / "whole")
    assert train_box(small, tmp_path / "box", tmp_path / "other", Stop()) == (6, 6)
    assert weights(tmp_path / "box") == weights(tmp_path / "whole")
    assert params.load(tmp_path / "box/params.yaml") == small
    origin = json.loads((tmp_path / "box/origin.json").read_text())
    head = subprocess.run(["git", "-C", jobs.SOURCE, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert (origin["commit"], origin["steps"], origin["planned_steps"]) == (head, 6, 6)
    network = load_generator(tmp_path / "box", "mr_to_ct")
    assert next(network.parameters()).dtype == torch.float32  # stored in half precision


def test_training_goes_on_from_the_box(small: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    stop.set()
    train_box(small, tmp_path / "box", tmp_path / "work", stop)
    monkeypatch.setattr(paths, "BOX", tmp_path / "box")
    data = Data.load(with_teacher=True, folder=tmp_path / "work/heads", with_slices=False)

    def start(model: dict[str, object], pixels: int = small.preprocess.pixels) -> Training:
        other = small.model_copy(
            update={
                "train": small.train.model_copy(update={"start_from": "box"}),
                "model": small.model.model_copy(update=model),
                "preprocess": small.preprocess.model_copy(update={"pixels": pixels}),
            }
        )
        return Training(other, tmp_path / "checkpoints", CPU, data)

    training = start({})
    stored = load_generator(tmp_path / "box", "ct_to_mr").state_dict()
    for networks in (training.learner.generators, training.learner.average):
        assert all(torch.equal(value, stored[name]) for name, value in networks["ct_to_mr"].state_dict().items())
    with pytest.raises(
        UserError, match=r"has model.generator_width = 4 \(params.yaml: 8\); run ctmr preset --set model.generator_width=4$"
    ):
        start({"generator_width": 8})
    with pytest.raises(UserError, match=r"--set model.generator=resnet_6 --set preprocess.pixels=32$"):
        start({"generator": "resnet_9"}, pixels=64)

    digests = [job_digest(training.params, CPU, "float32", tmp_path / "work/heads")]
    (tmp_path / "box/mr_to_ct.safetensors").write_bytes(b"other weights")
    digests.append(job_digest(training.params, CPU, "float32", tmp_path / "work/heads"))
    assert digests[0] != digests[1]
    assert digests[1] != job_digest(small, CPU, "float32", tmp_path / "work/heads")


def test_both_directions_take_ten_megabytes_at_most() -> None:
    numbers = sum(weight.numel() for direction in DIRECTIONS for weight in build_generator(CONTENT.model, direction).parameters())
    assert 2 * numbers < 10e6
    assert CONTENT.preprocess.pixels >= 128
    assert CONTENT.preprocess.field_of_view is not None
    assert CONTENT.preprocess.field_of_view / CONTENT.preprocess.pixels <= 2
