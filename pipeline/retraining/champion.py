"""The registry's part in a retraining; called with the workspace as working folder."""

import hashlib
import json
import shutil
from pathlib import Path

from pipeline import atomic, paths
from pipeline.domain import DIRECTIONS
from pipeline.errors import UserError
from pipeline.tracking import models_command, registry, store

START = paths.CHECKPOINTS / "start"


def gather_weights() -> Path | None:
    """A folder, named by its content, with model.json and both champions' generators; None while a direction has no champion.

    Raises UserError when the two have different architectures.
    """
    uri = store.tracking_uri()
    champions = {direction: registry.alias(uri, direction.model_name, registry.CHAMPION) for direction in DIRECTIONS}
    folders = {direction: registry.files(uri, version) for direction, version in champions.items() if version is not None}
    if len(folders) < len(DIRECTIONS):
        return None
    facts = {direction: json.loads((folder / paths.MODEL_JSON.name).read_text(encoding="utf-8")) for direction, folder in folders.items()}
    first = facts[DIRECTIONS[0]]
    if any(other["model"] != first["model"] for other in facts.values()):
        raise UserError("the champions of the two directions have different architectures; a warm start needs both alike")
    entries = {direction.value: facts[direction]["directions"][direction] for direction in DIRECTIONS}
    digest = hashlib.sha256(json.dumps([entries, first["model"]], sort_keys=True).encode()).hexdigest()[:16]
    target = START / digest
    if not target.is_dir():
        with atomic.new_folder(target) as folder:
            for direction in DIRECTIONS:
                weights = entries[direction]["weights"]
                shutil.copyfile(folders[direction] / weights, folder / weights)
            atomic.write_json(folder / paths.MODEL_JSON.name, {**first, "directions": entries})
    return target


def promote_challengers(wanted: dict[str, str]) -> None:
    """Make the challenger with the weights of this digest champion, for each model in `wanted`.

    Raises UserError when another one is challenger by now.
    """
    uri = store.tracking_uri()
    for name, digest in wanted.items():
        version = registry.version(uri, f"{name}@{registry.CHALLENGER}")
        if version.tags[registry.WEIGHTS] != digest:
            raise UserError(f"{name}: another version is challenger by now; look at ctmr models and use ctmr promote")
        models_command.promote(name, version.version)
