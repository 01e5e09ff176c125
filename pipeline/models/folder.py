"""A folder of trained generators: model.json says how they are built and what they were trained on, safetensors hold their weights."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.params import Model, Preprocess


def load_model(folder: Path) -> Model:
    """What the networks in `folder` are. Raises UserError when model.json does not say it."""
    try:
        return Model.model_validate(read_facts(folder)["model"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); name a folder with trained models") from None


def load_preprocess(folder: Path) -> Preprocess:
    """How the slices were prepared that the models in `folder` were trained on. Raises UserError when model.json does not say it."""
    try:
        return Preprocess.model_validate(read_facts(folder)["preprocess"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); run dvc repro, or name a folder with --model") from None


def read_facts(folder: Path) -> dict[str, Any]:
    """Content of model.json. Raises FileNotFoundError and ValueError."""
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError("no JSON object")
    return facts


def refuse(folder: Path, direction: str, error: Exception) -> UserError:
    """What to say where the generator of `direction` cannot be built from `folder`."""
    return UserError(f"{folder}: no usable model for {direction} ({error}); run dvc repro, or dvc pull")
