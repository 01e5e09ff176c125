"""The loop with options beside the defaults: resumed to the bit, ended early, stopped when it diverges, best weights kept."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from pipeline import params
from pipeline.errors import UserError
from pipeline.models.cyclegan import SIGNAL
from pipeline.models.fast.precision import choose_precision
from pipeline.processes import Stop
from pipeline.training import loop, validation
from pipeline.training.data import Slices
from pipeline.training.feed import Data
from pipeline.training.loop import Interrupted, Training
from pipeline.training.schedule import count_falls, is_exhausted, scheduled_rate
from tests.training import jobs


class Recorder:
    """A tracker that keeps the metrics and drops the rest."""

    id = "none"

    def __init__(self) -> None:
        self.metrics: dict[str, list[float]] = {}

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        for name, value in values.items():
            self.metrics.setdefault(name, []).append(value)

    def log_image(self, *_: object, **__: object) -> None: ...
    def log_files(self, *_: object) -> None: ...
    def set_tags(self, *_: object) -> None: ...
    def finish(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Data:
    torch.set_num_threads(1)
    folder = jobs.make(tmp_path_factory.mktemp("job")) / "data/slices"
    return Data.load(with_teacher=True, folder=folder)


def chosen(**knobs: object) -> params.Params:
    content = jobs.PARAMS.model_dump(by_alias=True)
    content["train"]["teacher"]["images"] = 4
    content["train"] |= {"images": 24, "sample_images": 4}
    for name, value in knobs.items():
        content["model" if name in content["model"] else "train"][name] = value
    return params.parse(content, "params.yaml")


def new_training(chosen_params: params.Params, folder: Path, slices: Data) -> Training:
    return Training(chosen_params, folder, torch.device("cpu"), slices)


def run(training: Training, until: int | None = None) -> Recorder:
    tracker, stop = Recorder(), Stop()
    for step in training.run(tracker, stop):
        if until is not None and step == until - 1:
            stop.set()
    return tracker


@pytest.mark.parametrize(
    ("width", "found", "wanted"),
    [
        (64, {"avx512_bf16": True}, "bfloat16"),
        (64, {"amx_bf16": True}, "bfloat16"),
        (16, {"avx512_bf16": True}, "float32"),
        (64, {}, "float32"),
    ],
)
def test_auto_is_bfloat16_on_a_cpu_that_gains_from_it(
    width: int, found: dict[str, bool], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert choose_precision(chosen(generator_width=width), torch.device("cpu")) == wanted
    assert choose_precision(chosen(generator_width=width, precision="float32"), torch.device("cpu")) == "float32"


def same(first: Training, second: Training) -> bool:
    left, right = first.learner.average.state_dict(), second.learner.average.state_dict()
    return first.history == second.history and all(torch.equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize(
    "knobs",
    [
        {"precision": "bfloat16"},
        {"norm": "batch", "schedule": "plateau", "patience": 1, "keep_best": True, "crop": 0.2, "affine": True},
        {"gan_loss": "wgan_gp", "schedule": "cosine", "clip_gradients": 1.0, "upsampling": "resize"},
    ],
)
def test_interrupted_and_resumed_ends_with_the_same_bits(knobs: dict[str, object], slices: Data, tmp_path: Path) -> None:
    options = chosen(**knobs)
    whole = new_training(options, tmp_path / "whole", slices)
    run(whole)
    first = new_training(options, tmp_path / "parts", slices)
    with pytest.raises(Interrupted):
        run(first, until=7)
    second = new_training(options, tmp_path / "parts", slices)
    assert second.step == 7
    run(second)
    for finished in (whole, second):
        finished.use_best()
    assert same(whole, second)
    assert whole.scores == second.scores


def test_signals_of_collapse_and_the_machine_are_logged(slices: Data, tmp_path: Path) -> None:
    metrics = run(new_training(chosen(), tmp_path, slices)).metrics
    signals = {name.removeprefix(SIGNAL) for name in metrics if name.startswith(SIGNAL)}
    assert signals >= {"accuracy_ct", "accuracy_mr", "spread_ct", "spread_mr", "gradient_generators", "gradient_discriminators"}
    assert signals >= {"ct_to_mr/spread", "mr_to_ct/spread"}
    assert "system/training_memory_megabytes" in metrics
    assert len(metrics["val/score"]) == 7
    errors = [metrics[f"val/{direction}/{kind}_mae"][-1] for kind in ("cycle", "paired") for direction in ("ct_to_mr", "mr_to_ct")]
    errors.append(metrics["val/mr_to_ct/paired_hu"][-1] / 1000)
    assert metrics["val/score"][-1] == pytest.approx(sum(errors) / 5)


def test_several_spoilt_steps_end_training_with_the_last_good_weights(slices: Data, tmp_path: Path) -> None:
    training = new_training(chosen(learning_rate=0.0002), tmp_path, slices)
    good, first_bad = training.feed.inputs, 3

    def spoilt(step: int):
        batch, pairs, registered = good(step)
        if batch is not None and step >= first_bad:
            batch.ct.fill_(float("nan"))
        return batch, pairs, registered

    training.feed.inputs = spoilt  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"training diverged: .* 10 steps before step 13"):
        run(training)
    again = new_training(chosen(learning_rate=0.0002), tmp_path, slices)
    assert again.step == 13
    assert all(torch.isfinite(value).all() for value in again.learner.generators.state_dict().values())


def test_it_ends_when_nothing_gets_better_and_the_best_is_kept(slices: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.9, 0.5, 0.3, 0.4, 0.35, 0.2])  # the first is of the warm-up and does not count
    seen = []

    def validate(generators, *_: object) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in generators.state_dict().items()})
        return {validation.SCORE: next(scores)}

    monkeypatch.setattr(loop, "validate", validate)
    training = new_training(chosen(stop_after=2, keep_best=True), tmp_path, slices)
    run(training)
    assert training.scores == [0.5, 0.3, 0.4, 0.35]
    assert training.step < training.steps
    assert training.done
    training.use_best()
    assert all(torch.equal(value, seen[2][name]) for name, value in training.learner.average.state_dict().items())


def test_epochs_are_passes_over_the_larger_modality(slices: Data, tmp_path: Path) -> None:
    training = new_training(chosen(epochs=3, batch_size=1), tmp_path, slices)
    assert training.steps - training.teacher_steps == 3 * 7


def test_slices_held_on_the_device_are_the_same(slices: Data, tmp_path: Path) -> None:
    folder = jobs.make(tmp_path / "job") / "data/slices"
    held, train = Slices("train", folder), jobs.PARAMS.train
    assert held.hold(torch.device("cpu"), 10) == 10  # no room: streamed as before
    assert held.hold(torch.device("cpu"), 10**6) == 10**6 - 4 * 2 * 7 * 32 * 32
    for name, value in vars(held.batch(3, train)).items():
        assert torch.equal(value, getattr(slices.train.batch(3, train), name))


def test_schedules() -> None:
    def rates(schedule: str, scores: tuple[float, ...] = ()) -> list[float]:
        train = jobs.PARAMS.train.model_copy(update={"schedule": schedule, "learning_rate": 1.0, "decay_factor": 0.5, "patience": 2})
        return [round(scheduled_rate(step, 8, train, scores), 3) for step in (0, 3, 4, 6, 7)]

    assert rates("linear") == [1, 1, 1, 0.5, 0.25]
    assert rates("cosine") == [1, 1, 1, 0.5, 0.146]
    assert rates("step") == [1, 1, 0.5, 0.25, 0.25]
    assert rates("plateau", (0.5, 0.6, 0.7)) == [0.5] * 5
    assert count_falls([0.5, 0.6, 0.4, 0.5, 0.5, 0.5, 0.5], 2) == 2
    assert [is_exhausted([0.5, 0.6, 0.7], patience) for patience in (0, 2, 3)] == [False, True, False]
    assert not is_exhausted([], 1)
