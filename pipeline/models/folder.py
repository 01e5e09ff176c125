"""A folder of trained generators: model.json says how they are built and what they were trained on, safetensors hold their weights."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pipeline import paths
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
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); {describe_cure(folder)}") from None


def read_facts(folder: Path) -> dict[str, Any]:
    """Content of model.json, which says what the networks are and, for each direction, which file holds the weights.

    Raises OSError, and ValueError where it does not say that.
    """
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except IsADirectoryError:
        raise ValueError("model.json is a folder") from None
    if not isinstance(facts, dict):
        raise ValueError("no JSON object")
    for name in ("model", "directions"):
        if not isinstance(facts.get(name), dict):
            raise ValueError(f"model.json does not say {name}")
    for direction, entry in facts["directions"].items():
        if not (isinstance(entry, dict) and isinstance(entry.get("weights"), str)):
            raise ValueError(f"model.json names no weights for {direction}")
    return facts


def read_weights(folder: Path, direction: str) -> tuple[dict[str, Any], Path]:
    """(`read_facts`, the file with the weights of `direction`). Raises as it does, and ValueError where there is no such file."""
    facts = read_facts(folder)
    if direction not in facts["directions"]:
        raise ValueError(f"model.json has no {direction}")
    file = folder / facts["directions"][direction]["weights"]
    if not file.is_file():
        raise ValueError(f"{file.name}: {'no file of weights' if file.exists() else 'not found'}")
    return facts, file


def refuse(folder: Path, direction: str, error: Exception) -> UserError:
    """What to say where the generator of `direction` cannot be built from `folder`."""
    return UserError(f"{folder}: no usable model for {direction} ({error}); {describe_cure(folder)}")


def describe_cure(folder: Path) -> str:
    """What brings the models in `folder` back, whosever they are."""
    if folder.resolve() == paths.MODELS.resolve():
        return f"dvc checkout {paths.MODELS} or dvc pull brings it back, dvc repro makes it again"
    return "copy it again, or name another; of a registered model, ctmr doctor --fix restores it"
