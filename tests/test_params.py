"""params.yaml as committed is valid; every mistake in it is one line that names the key, its value and what is allowed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import params
from pipeline.errors import UserError

PROJECT = Path(__file__).parents[1]


def changed(tmp_path: Path, key: str, value: object) -> Path:
    """A copy of params.yaml in which the dotted `key` has another value."""
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    *sections, knob = key.split(".")
    place = content
    for section in sections:
        place = place[section]
    place[knob] = value
    target = tmp_path / "params.yaml"
    target.write_text(yaml.safe_dump(content))
    return target


def test_as_committed_it_runs_anywhere() -> None:
    loaded = params.load(PROJECT / "params.yaml")
    assert loaded.data.source == "phantom"
    assert loaded.train.device == "auto"


def test_committed_values_are_the_defaults() -> None:
    assert params.load(PROJECT / "params.yaml") == params.Params()


def test_every_knob_means_in_params_yaml_what_its_docstring_says() -> None:
    told = {key: meaning for key, (_, meaning) in params.meanings(params.Params()).items()}
    assert [key for key, meaning in told.items() if not meaning] == []
    lines = [line for line in (PROJECT / "params.yaml").read_text().splitlines() if re.match(r" +[a-z]", line)]
    knobs = [(line.split(":")[0].strip(), line.partition(" # ")[2]) for line in lines if line.partition("#")[0].rstrip()[-1] != ":"]
    assert knobs == [(key.rpartition(".")[2], meaning) for key, meaning in told.items()]


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("train.learning_rate", "2e-4", 0.0002),
        ("train.images", "1e5", 100_000),
        ("train.lambda_cycle", "1E1", 10),
        ("train.crop", ".1", 0.1),
    ],
)
def test_numbers_as_people_type_them(tmp_path: Path, key: str, typed: str, value: float) -> None:
    file = changed(tmp_path, key, "TYPED")
    file.write_text(file.read_text().replace("TYPED", typed))
    assert params.flatten(params.load(file).model_dump())[key] == value


def test_schema_describes_every_knob_with_its_default() -> None:
    schema = params.schema()
    defined = schema["$defs"]
    for section in (value["$ref"].rpartition("/")[2] for value in schema["properties"].values()):
        for name, knob in defined[section]["properties"].items():
            assert "default" in knob, f"{section}.{name}"
            assert "$ref" in knob or knob["description"], f"{section}.{name}"
    assert defined["Preprocess"]["properties"]["pixels"]["minimum"] == 32
    assert schema["additionalProperties"] is False


def test_objects_cannot_be_changed() -> None:
    loaded = params.load(PROJECT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        loaded.split.val = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("train.imagse", 5, "train.imagse is not a known key"),
        ("trian", {}, "trian is not a known key"),
        ("train.images", "many", "train.images = 'many': input should be a valid integer"),
        ("train.images", 2.5, "train.images = 2.5: input should be a valid integer"),
        ("train.batch_size", 0, "train.batch_size = 0: input should be greater than 0"),
        ("train.flip", "yes", "train.flip = 'yes': input should be a valid boolean"),
        ("train.learning_rate", float("nan"), "train.learning_rate = nan: input should be a finite number"),
        ("train.device", "tpu", "train.device = 'tpu': input should be 'auto', 'cpu' or 'cuda'"),
        ("preprocess.pixels", 66, "preprocess.pixels = 66: input should be a multiple of 4"),
        ("preprocess.mr_percentiles", [99, 1], "must rise"),
        ("preprocess.teacher_pairs", 0, "needs simulated pairs"),
        ("data.kaggle.handle", "no-owner", "data.kaggle.handle = 'no-owner': string should match pattern"),
        ("data.source", "folder", "data.folder must name a directory or archive"),
        ("split.val", 0.9, "leaves nothing to train on"),
        ("split.pairs", "all", "split.pairs = 'all': input should be 'test' or 'grouped'"),
        ("train.pairs.images", 100, "set split.pairs to grouped"),
        ("train.pairs", {"images": 100, "weight": 0.0, "tolerance": 0}, "train: pairs.images > 0 needs pairs.weight above 0"),
        ("train.pairs.tolerance", 9, "train.pairs.tolerance = 9: input should be less than or equal to 4"),
    ],
)
def test_mistake_is_named(tmp_path: Path, key: str, value: object, expected: str) -> None:
    with pytest.raises(UserError) as error:
        params.load(changed(tmp_path, key, value))
    assert expected in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "params.yaml"))


def test_missing_key_is_named(tmp_path: Path) -> None:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    del content["train"]["images"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"train\.images is missing"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected sections"),
        ("- a\n- b", "expected sections"),
        ("data: [", "not valid YAML"),
        ("\x00", "not valid YAML"),
        ("train:\n\tseed: 1", "not valid YAML: line 2: found character"),
        ("data: 1\n<<<<<<< HEAD\ntrain: 1\n=======\n", r"not valid YAML: line 2: a merge conflict of git \(<<<<<<< HEAD\)"),
        ("data: {}\n---\ntrain: {}", "not valid YAML: line 2: expected a single document in the stream, but found another document"),
        ("data: !word kaggle", "not valid YAML: line 1: could not determine a constructor for the tag '!word'"),
        (None, "not found"),
    ],
)
def test_unreadable_file_is_one_line(tmp_path: Path, text: str | None, expected: str) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=expected):
        params.load(tmp_path / "params.yaml")


def test_a_stage_ends_with_that_line_and_exit_code_2(tmp_path: Path) -> None:
    changed(tmp_path, "train.batch_size", -1)
    ended = subprocess.run([sys.executable, "-m", "stages.download"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: params.yaml: train.batch_size = -1: input should be greater than 0\n"
