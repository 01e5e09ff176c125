"""`ctmr preset`: named changes to params.yaml that keep its comments and never leave it invalid."""

import shutil
from pathlib import Path

import pytest

from pipeline import params, presets
from pipeline.errors import UserError

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "presets"
WHOLE = ("demo", "smoke", "kaggle-cpu", "kaggle-gpu", "paper")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return Path(shutil.copy(PROJECT / "params.yaml", tmp_path))


def apply(name: str | None, target: Path, *settings: str) -> list[presets.Change]:
    return presets.apply(name, list(settings), target, FOLDER)


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


@pytest.mark.parametrize("name", WHOLE)
def test_there_and_back_gives_the_same_bytes(name: str, target: Path) -> None:
    apply(name, target)
    apply("demo", target)
    assert target.read_bytes() == (PROJECT / "params.yaml").read_bytes()


def test_the_order_in_which_presets_were_tried_does_not_matter(target: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    shutil.copy(target, other)
    for name in ("smoke", "kaggle-cpu", "kaggle-gpu", "paper"):
        apply(name, target)
    apply("paper", other)
    assert target.read_bytes() == other.read_bytes()


def test_says_what_changed(target: Path) -> None:
    changes = {change.key: (change.old, change.new) for change in apply("kaggle-gpu", target)}
    assert changes["data.source"] == ("phantom", "kaggle")
    assert changes["preprocess.pixels"] == (64, 256)
    assert "data.kaggle.version" not in changes


def test_full_job(target: Path) -> None:
    apply("kaggle-gpu", target)
    full = params.load(target)
    assert (full.data.source, full.preprocess.pixels, full.model.generator, full.model.generator_width) == ("kaggle", 256, "resnet_9", 64)


def test_paper_is_plain_cyclegan(target: Path) -> None:
    apply("paper", target)
    paper = params.load(target)
    assert (paper.train.teacher.images, paper.preprocess.teacher_pairs, paper.model.condition_on_contrast) == (0, 0, False)
    assert (paper.train.batch_size, paper.train.lambda_cycle, paper.train.pool_size, paper.train.learning_rate) == (1, 10.0, 50, 0.0002)


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
        (None, ["train.images=-5"], "train.images = -5"),
        ("smoke", ["preprocess.pixels=33"], "preprocess.pixels = 33"),
    ],
)
def test_mistake_leaves_the_file_alone(name: str | None, settings: list[str], expected: str, target: Path) -> None:
    with pytest.raises(UserError, match=expected):
        apply(name, target, *settings)
    assert target.read_bytes() == (PROJECT / "params.yaml").read_bytes()


def test_broken_params_file_is_one_line(target: Path) -> None:
    target.write_text("data: [")
    with pytest.raises(UserError, match="not valid YAML"):
        apply("smoke", target)


def test_every_preset_says_what_it_is_for() -> None:
    descriptions = presets.available(FOLDER)
    assert set(descriptions) == {*WHOLE, "folder"}
    assert all(len(description) > 20 for description in descriptions.values())
