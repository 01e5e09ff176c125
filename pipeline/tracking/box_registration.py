"""The model in the box in the registry: both directions as versions of a run of their own, champion where there is none yet.

So that the gate has something to beat: a model of one's own becomes champion only when it is not worse on one's own test slices.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.domain import DIRECTIONS, Direction
from pipeline.errors import UserError
from pipeline.params import flatten, read_yaml
from pipeline.tracking import registry, runs, store
from pipeline.tracking.promotion import CHAMPION
from pipeline.tracking.runs import Run

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ORIGIN = "origin"  # tag of a run and of a version
IN_THE_BOX = "model in the box, taught by simulated heads alone"


@dataclass(frozen=True)
class BoxVersion:
    """What became of one direction: its version, whether it was there already, and the champion's version by now."""

    name: str
    version: str
    known: bool
    champion: str

    def __str__(self) -> str:
        said = f"{self.name} version {self.version} is the model in the box{', as before' if self.known else ''}"
        if self.champion == self.version:
            return f"{said}; it is champion"
        return f"{said}; champion stays version {self.champion}: ctmr promote {self.name} {self.version} would change that"


def register_box(box: Path = paths.BOX) -> list[BoxVersion]:
    """Register both directions of the model in the folder `box`, where the registry does not have them yet.

    A direction without a champion gets this one. Raises UserError where there is no model in the box, or the store cannot be used.
    """
    if not any(box.glob("*.safetensors")):
        raise UserError(f"{box}: this copy of ctmr has no model in the box")
    uri = store.tracking_uri()
    with store.errors(uri):
        known = {direction: registry.find(uri, direction, registry.weights_digest(direction, box)) for direction in DIRECTIONS}
        found = known if all(known.values()) else _register(uri, box)
        for version in found.values():
            if version is not None and registry.alias(uri, version.name, CHAMPION) is None:
                registry.crown(uri, registry.version(uri, f"{version.name}/{version.version}"))
        results = [_look_up(uri, direction, known[direction] is not None, box) for direction in DIRECTIONS]
    for result in results:  # so that the first translation need not wait for MLflow
        registry.fetch(f"{result.name}@{CHAMPION}")
    return results


def _register(uri: str, box: Path) -> "dict[Direction, ModelVersion | None]":
    """Both versions, from one run, so that each finds the one that leads back."""
    client = store.client(uri)
    origin, card = box / paths.BOX_ORIGIN.name, box / paths.BOX_CARD.name
    facts = json.loads(origin.read_text(encoding="utf-8")) if origin.is_file() else {}
    run = _begin(uri, box, facts)
    versions: dict[Direction, ModelVersion | None] = {}
    for direction in DIRECTIONS:
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        version = registry.register(run, direction, {}, text, "", box)
        for key, value in {ORIGIN: IN_THE_BOX, "git.commit": facts.get("commit", "")}.items():
            client.set_model_version_tag(version.name, version.version, key, value)
        versions[direction] = version
    run.log_files(box, "box")
    run.finish()
    return versions


def _begin(uri: str, box: Path, origin: dict[str, Any]) -> Run:
    """A run with the params and the commit that made the weights, not those of this folder."""
    commit, params = str(origin.get("commit", "")), box / paths.PARAMS.name
    tags = {ORIGIN: IN_THE_BOX, "git.commit": commit, "mlflow.source.git.commit": commit}
    tags |= {"preset": paths.IN_THE_BOX, "mlflow.source.name": "python -m pipeline.training.box", "mlflow.source.type": "LOCAL"}
    knobs = flatten(read_yaml(params)) if params.is_file() else {}
    return runs.create(uri, "model in the box", {key: value for key, value in tags.items() if value}, knobs)


def _look_up(uri: str, direction: Direction, known: bool, box: Path) -> BoxVersion:
    version = registry.find(uri, direction, registry.weights_digest(direction, box))
    champion = registry.alias(uri, direction.model_name, CHAMPION)
    if version is None or champion is None:
        raise UserError(f"{direction.model_name}: changed by another program just now; run ctmr models --register-box again")
    return BoxVersion(direction.model_name, str(version.version), known, str(champion.version))
