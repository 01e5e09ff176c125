"""`ctmr preset`: named changes to params.yaml that keep its comments and never leave it invalid."""

import shutil
from pathlib import Path

import pytest

from pipeline import params, presets
from pipeline.errors import UserError

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "presets"
WHOLE = ("demo", "smoke", "kaggle-cpu", "kaggle-gpu", "paper", "box")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


def apply(name: str | None, target: Path, *settings: str) -> list[presets.Change]:
    return presets.apply([name] if name else [], settings, target, FOLDER)


def comments(file: Path) -> list[str]:
    return [line.partition("#")[2].strip() for line in file.read_text().splitlines() if "#" in line]


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.yaml")))
def test_keeps_comments_and_is_valid(name: str, target: Path) -> None:
    before = comments(target)
    apply(name, target)
    assert comments(target) == before
    params.load(target)


def test_demo_is_what_is_committed(target: Path) -> None:
    assert apply("demo", target) == []
    assert target.read_bytes() == (PROJECT / "params.yaml").read_bytes()


ODD = (
    "train.gan_loss=hinge", "train.lambda_cycle=7", "train.ema_decay=0.5", "train.precision=bfloat16", "split.seed=9",
    "quality.min_side=100",
    "data.kaggle.version=2", "register.promotion=manual", "model.norm=none", "train.threads=5",
)  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_a_preset_never_depends_on_what_was_applied_before(name: str, target: Path, tmp_path: Path) -> None:
    fresh = Path(shutil.copy(target, tmp_path / "fresh.yaml"))
    apply(name, fresh)
    for before in WHOLE:
        apply(before, target, *ODD)
        apply(name, target)
        assert target.read_bytes() == fresh.read_bytes(), f"{name} after {before}"


def test_several_presets_go_together_and_a_later_one_wins(target: Path) -> None:
    presets.apply(["kaggle-gpu", "folder"], ["data.folder=/data/mine.zip"], target, FOLDER)
    loaded = params.load(target)
    assert (loaded.data.source, loaded.data.folder, loaded.model.generator) == ("folder", "/data/mine.zip", "resnet_9")


def test_paired_learns_from_registered_and_simulated_pairs_alone(target: Path) -> None:
    presets.apply(["kaggle-gpu", "paired"], ["data.folder=/data/mine.zip"], target, FOLDER)
    loaded = params.load(target)
    assert (loaded.split.pairs, loaded.train.images, loaded.train.epochs) == ("grouped", 0, None)
    assert loaded.train.pairs.images > 0
    assert (loaded.train.teacher.images, loaded.preprocess.pixels) == (40000, 256)


def test_a_preset_is_named_only_when_all_knobs_agree(target: Path) -> None:
    for name in WHOLE:
        apply(name, target)
        assert named(target) == name
        for setting in ("train.gan_loss=wgan_gp", "train.seed=7", "evaluate.examples=7"):
            apply(name, target, setting)
            assert named(target) == ""


def named(target: Path) -> str:
    return presets.name_of(params.flatten(params.load(target).model_dump(by_alias=True)), FOLDER)


def test_says_what_changed(target: Path) -> None:
    changes = {change.key: (change.old, change.new) for change in apply("kaggle-gpu", target)}
    assert changes["data.source"] == ("phantom", "kaggle")
    assert changes["preprocess.pixels"] == (64, 256)
    assert "data.kaggle.version" not in changes


def test_full_job(target: Path) -> None:
    apply("kaggle-gpu", target)
    full = params.load(target)
    assert (full.data.source, full.preprocess.pixels, full.model.generator, full.model.generator_width) == ("kaggle", 256, "resnet_9", 64)


def test_paper_is_cyclegan_as_published(target: Path) -> None:
    """arXiv 1703.10593, sections 3, 4 and 7: losses and their weights, networks, optimiser, schedule, history of translations."""
    apply("smoke", target, *ODD)
    apply("paper", target)
    paper = params.load(target)
    model, train = paper.model, paper.train
    assert (train.teacher.images, paper.preprocess.teacher_pairs, model.condition_on_contrast, train.start_from) == (0, 0, False, None)
    assert (train.gan_loss, train.lambda_cycle, train.lambda_adversarial, train.lambda_identity) == ("lsgan", 10.0, 1.0, 0.0)
    assert (train.learning_rate, train.adam_beta1, train.batch_size, train.pool_size) == (0.0002, 0.5, 1, 50)
    assert (train.epochs, train.schedule, train.decay_from) == (200, "linear", 0.5)
    assert (model.generator, model.generator_width, model.norm, model.initialisation) == ("resnet_9", 64, "instance", "normal")
    assert (model.discriminator, model.discriminator_layers, model.discriminator_width) == ("patch", 3, 64)
    assert (train.precision, train.ema_decay, train.clip_gradients, train.keep_best) == ("float32", 0.0, 0.0, False)


@pytest.mark.parametrize(
    "folder",
    ["run #2/slices", "a: b", "[x]", "*star", "@home", "2024", "what?", "C:\\data", "it's", "~user/x", "null?", "#1", "&x", "- x", "%x"],
)
def test_a_path_is_taken_as_it_stands(folder: str, target: Path) -> None:
    apply("folder", target, f"data.folder={folder}")
    assert params.load(target).data.folder == folder
    apply(None, target, "train.images=7")
    assert params.load(target).data.folder == folder


@pytest.mark.parametrize(("text", "value"), [("null", None), ("~", None), ("", None), ("'null'", "null"), ('"a b"', "a b")])
def test_null_and_quotes_mean_what_they_do_in_yaml(text: str, value: str | None, target: Path) -> None:
    apply(None, target, f"data.folder={text}")
    assert params.load(target).data.folder == value


def test_settings_come_on_top(target: Path) -> None:
    apply("folder", target, "data.folder=/data/mine.zip", "train.images=500", "train.flip=false")
    loaded = params.load(target)
    assert (loaded.data.folder, loaded.train.images, loaded.train.flip) == ("/data/mine.zip", 500, False)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("imaginary", [], "choose one of .*kaggle-gpu"),
        (None, ["train.imagse=5"], "train.imagse is not a known key"),
        (None, ["train=5"], "train is not a known key"),
        (None, ["train.images"], "expected KEY=VALUE"),
        (None, ["train.images=["], "not valid YAML"),
        (None, ["data.folder=\udcff"], "not UTF-8"),
        (None, ["train.learning_rate=fast"], "train.learning_rate = 'fast'"),
        (None, ["train.images=-5"], "train.images = -5"),
        ("smoke", ["preprocess.pixels=33"], "preprocess.pixels = 33"),
    ],
)
def test_mistake_leaves_the_file_alone(name: str | None, settings: list[str], expected: str, target: Path) -> None:
    with pytest.raises(UserError, match=expected):
        apply(name, target, *settings)
    assert target.read_bytes() == (PROJECT / "params.yaml").read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("data:", "data: [", "not valid YAML"),
        ("data:", "x: " + "[" * 9000 + "]" * 9000 + "\ndata:", "not valid YAML: brackets inside brackets without end"),
        ("  seed: 0", "  seed: !word 0", "not valid YAML: line .*: could not determine a constructor for the tag '!word'"),
        ("  flip:", "  flop:", "train.flip is missing, or its section is; git checkout .* brings back what git has"),
        ("\nregister:", "\nregister: []\nregistr:", "register.margin is missing, or its section is"),
    ],
)
def test_broken_params_file_is_one_line(before: str, after: str, expected: str, target: Path) -> None:
    target.write_text(target.read_text().replace(before, after, 1))
    with pytest.raises(UserError, match=expected):
        apply(None, target, "train.images=9", "train.flip=false", "register.margin=0.1")


def test_every_preset_says_what_it_is_for() -> None:
    descriptions = presets.available(FOLDER)
    assert set(descriptions) == {*WHOLE, "folder", "paired"}
    assert all(len(description) > 20 for description in descriptions.values())
