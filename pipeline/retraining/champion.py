"""The registry's part in a retraining, as a process of its own in the workspace (MLflow takes seconds to import).

`python -m pipeline.retraining.champion weights` puts the champions' generators into one folder and prints it;
`python -m pipeline.retraining.champion now` prints the digests of the champions' weights;
`python -m pipeline.retraining.champion promote MODEL=WEIGHTS_DIGEST ...` makes challengers champion by a person's word.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from pipeline import atomic, paths
from pipeline.errors import UserError, user_errors
from pipeline.tracking import command, lookup, registry, store

START = paths.CHECKPOINTS / "start"


def weights() -> Path | None:
    """A folder, named by its content, with model.json and both champions' generators; None while a direction has no champion.

    Raises UserError when the two have different architectures.
    """
    uri = store.tracking_uri()
    found = {direction: registry.alias(uri, name, registry.CHAMPION) for direction, name in registry.NAMES.items()}
    folders = {direction: registry.files(uri, version) for direction, version in found.items() if version is not None}
    if len(folders) < len(registry.NAMES):
        return None
    facts = {direction: json.loads((folder / paths.MODEL_JSON.name).read_text(encoding="utf-8")) for direction, folder in folders.items()}
    first = facts[paths.DIRECTIONS[0]]
    if any(one["model"] != first["model"] for one in facts.values()):
        raise UserError("the champions of the two directions have different architectures; a warm start needs both alike")
    entries = {direction: one["directions"][direction] for direction, one in facts.items()}
    digest = hashlib.sha256(json.dumps([entries, first["model"]], sort_keys=True).encode()).hexdigest()[:16]
    target = START / digest
    if not target.is_dir():
        with atomic.new_folder(target) as folder:
            for direction, entry in entries.items():
                shutil.copyfile(folders[direction] / entry["weights"], folder / entry["weights"])
            atomic.write_json(folder / paths.MODEL_JSON.name, {**first, "directions": entries})
    return target


def weights_now() -> dict[str, str]:
    """Digest of each champion's weights, by model."""
    uri = store.tracking_uri()
    found: dict[str, str] = {}
    for name in registry.NAMES.values():
        champion = lookup.look_up(uri, name, "@", registry.CHAMPION) or registry.alias(uri, name, registry.CHAMPION)
        if champion is not None:
            found[name] = champion.tags[registry.WEIGHTS]
    return found


def promote(wanted: dict[str, str]) -> None:
    """Make the challenger with these weights champion, for each model in `wanted`.

    Raises UserError when another one is challenger by now.
    """
    uri = store.tracking_uri()
    for name, digest in wanted.items():
        version = registry.version(uri, f"{name}@{registry.CHALLENGER}")
        if version.tags[registry.WEIGHTS] != digest:
            raise UserError(f"{name}: another version is challenger by now; look at ctmr models and use ctmr promote")
        command.promote(name, version.version)


if __name__ == "__main__":
    with user_errors():
        if sys.argv[1] == "weights":
            print(json.dumps(str(place) if (place := weights()) else None))
        elif sys.argv[1] == "now":
            print(json.dumps(weights_now()))
        else:
            promote(dict(pair.split("=") for pair in sys.argv[2:]))
