"""A folder of trained generators: model.json says how they are built and what they were trained on, safetensors hold their weights."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import UserError
from pipeline.params import Model, Preprocess

SomeSection = TypeVar("SomeSection", Model, Preprocess)


def load_model(folder: Path) -> Model:
    """What the networks in `folder` are. Raises UserError when model.json does not say it."""
    return _load_section(Model, folder, "model")


def load_preprocess(folder: Path) -> Preprocess:
    """How the slices were prepared that the models in `folder` were trained on. Raises UserError when model.json does not say it."""
    return _load_section(Preprocess, folder, "preprocess")


def _load_section(kind: type[SomeSection], folder: Path, name: str) -> SomeSection:
    try:
        return kind.model_validate(read_facts(folder)[name])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); run dvc repro, or name a folder with trained models") from None


def read_facts(folder: Path) -> dict[str, Any]:
    """Content of model.json. Raises FileNotFoundError and ValueError."""
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError("no JSON object")
    return facts


def refuse(folder: Path, direction: str, error: Exception) -> UserError:
    """What to say where the generator of `direction` cannot be built from `folder`."""
    return UserError(f"{folder}: no usable model for {direction} ({error}); run dvc repro, or dvc pull")
