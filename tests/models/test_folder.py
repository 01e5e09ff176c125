"""Folders of models that somebody put together by hand: one line that says what is wrong, whoever reads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.models.folder import load_preprocess
from pipeline.models.inference import load_generator
from pipeline.models.runtime import load_onnx
from pipeline.serving.translator import Translator
from pipeline.tracking.packaging import _one_direction

WEIGHTS = "mr_to_ct.safetensors"


def replace_facts(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        facts = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(change(facts) or facts))

    return damage


def put_a_folder(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty object": lambda folder: (folder / "model.json").write_text("{}"),
    "a list": lambda folder: (folder / "model.json").write_text("[]"),
    "no text": lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe\0"),
    "no file": lambda folder: (folder / "model.json").unlink(),
    "a folder": put_a_folder("model.json"),
    "no directions": replace_facts(lambda facts: facts.pop("directions") and None),
    "directions a list": replace_facts(lambda facts: facts.update(directions=[])),
    "no such direction": replace_facts(lambda facts: facts["directions"].pop("mr_to_ct") and None),
    "weights a number": replace_facts(lambda facts: facts["directions"]["mr_to_ct"].update(weights=5)),
    "model a list": replace_facts(lambda facts: facts.update(model=[])),
    "weights a folder": put_a_folder(WEIGHTS),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_folder_that_is_no_model_is_one_line_for_every_reader(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(paths.BOX, folder)
    DAMAGES[name](folder)
    readers = (load_onnx, load_generator, Translator.from_folder, lambda models, to: _one_direction(models, to, tmp_path / "packed"))
    for read in readers:
        shutil.rmtree(tmp_path / "packed", ignore_errors=True)
        with pytest.raises(UserError, match="no usable model") as refusal:
            read(folder, "mr_to_ct")
        assert str(folder) in str(refusal.value)


def test_how_slices_were_prepared_must_be_told(tmp_path: Path) -> None:
    for content in ({}, {"preprocess": None}, {"preprocess": []}):
        (tmp_path / "model.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"no usable model\.json"):
            load_preprocess(tmp_path)
