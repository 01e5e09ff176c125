"""What the register stage does: both generators into the registry, the decision on each, and the report of it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.atomic import new_folder, write_json
from pipeline.domain import DIRECTIONS, Direction
from pipeline.errors import UserError
from pipeline.models.folder import load_model, load_preprocess
from pipeline.params import Params
from pipeline.sources import provenance
from pipeline.tracking import facts, model_card, promotion, registry, runs, store
from pipeline.tracking.promotion import BEST, CHAMPION, Decision
from pipeline.tracking.registry import DECISION, WEIGHTS

CARRIED_OUT = "carried_out"  # tag of a version: the basis of the decision that was carried out

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Registered:
    """A model after registration: its version, what was decided on it and when (UTC), and the champion's version by now."""

    version: str
    decision: Decision
    decided: str
    champion: str
    champion_weights: str

    def __str__(self) -> str:
        """What was decided when, and the registry as it is."""
        said = "promoted" if self.decision.promoted else "not promoted"
        now = f"champion is version {self.champion}" if self.champion not in ("", self.version) else self.champion_now()
        return f"version {self.version}, {said} (decided {self.decided}); {now}"

    def champion_now(self) -> str:
        """The registry's champion as it is, without numbers of versions, so that the report has the same bytes in every registry."""
        if not self.champion:
            return "there is no champion"
        if self.champion != self.version:
            return f"champion is another model, {self.champion_weights[:8]}"
        return "it is champion" if self.decision.promoted else "it was made champion before and stays so; ctmr rollback takes that back"


def register(params: Params) -> dict[Direction, Registered]:
    """Register models/ with the scores in reports/evaluate, decide on promotion, write reports/register. What came of it, by direction.

    The report holds digests and decisions, no version numbers, times or run ids: the same models, scores and registry give the same bytes.
    """
    model = _read(paths.MODEL_JSON, "train")
    for load in (load_model, load_preprocess):  # what a model.json by hand lacks is said before anything is registered
        load(paths.MODELS)
    metrics = _read(paths.METRICS_JSON, "evaluate", "test")
    drift = _read(paths.DRIFT_JSON, "validate") if paths.DRIFT_JSON.is_file() else {}
    run = runs.attach()
    train = params.train
    lessons = (train.teacher.images, bool(train.images or train.epochs), train.pairs.weight > 0)
    card = model_card.Card(model, metrics, provenance.read(), model_card.Slices.stored(), *lessons)
    data_digest = facts.data_digest()
    with store.errors(run.uri):
        for direction in DIRECTIONS:
            scores = promotion.test_scores(metrics, direction)
            version = registry.register(run, direction, scores, card.markdown({}), data_digest)
            basis = promotion.basis(metrics, drift, params.register_.model_dump())
            if registry.decision(version) is None or json.loads(version.tags[DECISION])["basis"] != basis:
                _decide(run.uri, direction, version, metrics, drift, params, basis)
            _carry_out(run.uri, f"{version.name}/{version.version}", basis)
        registered = {direction: _look_up(run.uri, direction) for direction in DIRECTIONS}
    with new_folder(paths.REGISTER_REPORT) as folder:
        entries = {direction.model_name: _entry(direction, result, data_digest) for direction, result in registered.items()}
        write_json(folder / paths.VERSIONS_JSON.name, entries)
        (folder / paths.MODEL_CARD.name).write_text(card.markdown(registered), encoding="utf-8")
    run.log_files(paths.REGISTER_REPORT, "register")
    if paths.STATISTICS_JSON.is_file():
        run.log_files(paths.STATISTICS_JSON, registry.STATISTICS)
    run.set_tags({"dvc.lock": facts.lock_digest()})
    run.finish()
    for direction in DIRECTIONS:  # so that the first translation need not wait for MLflow
        if registered[direction].champion:
            registry.fetch(f"{direction.model_name}@{CHAMPION}")
    return registered


def _decide(uri: str, direction: Direction, version: "ModelVersion", metrics: Any, drift: Any, params: Params, basis: str) -> None:
    """Make `version` challenger, hold it against its rivals, write the decision into its tags."""
    client = store.client(uri)
    client.set_registered_model_alias(version.name, registry.CHALLENGER, version.version)
    rivals: dict[str, ModelVersion] = {}
    for role in (CHAMPION, BEST):
        rival = registry.alias(uri, version.name, role)
        if rival is not None and str(rival.version) not in {str(other.version) for other in (version, *rivals.values())}:
            rivals[role] = rival
    comparisons: dict[str, promotion.Comparison] = {}
    if rivals:
        from pipeline.tracking import contest  # which imports torch

        comparisons = contest.compare_with(uri, direction, rivals, params)
    decision = promotion.decide(promotion.checks(metrics, drift, direction, comparisons, params.register_), params.register_)
    content = {**decision.to_json(), "basis": basis, "decided": datetime.now(UTC).isoformat(timespec="seconds")}
    client.set_model_version_tag(version.name, version.version, DECISION, json.dumps(content))


def _carry_out(uri: str, name: str, basis: str) -> None:
    """Crown the version where that was decided, once: a kill between decision and crown is made good, a rollback later is left alone."""
    version = registry.version(uri, name)
    decision = registry.decision(version)
    if decision is None or version.tags.get(CARRIED_OUT) == basis:
        return
    if decision.promoted:
        registry.crown(uri, version)
    client = store.client(uri)
    client.set_model_version_tag(version.name, version.version, "promoted", str(decision.promoted).lower())
    client.set_model_version_tag(version.name, version.version, CARRIED_OUT, basis)


def _look_up(uri: str, direction: Direction) -> Registered:
    """The registry as it is by now, about the model in models/."""
    name = direction.model_name
    version = registry.find(uri, direction, registry.weights_digest(direction))
    champion = registry.alias(uri, name, CHAMPION)
    decision = registry.decision(version) if version is not None else None
    if version is None or decision is None:
        raise UserError(f"{name}: its version was changed or deleted by another program just now; run dvc repro register again")
    number, weights = (str(champion.version), champion.tags.get(WEIGHTS, "")) if champion is not None else ("", "")
    return Registered(str(version.version), decision, json.loads(version.tags[DECISION])["decided"], number, weights)


def _entry(direction: Direction, registered: Registered, data_digest: str) -> dict[str, Any]:
    decision, weights = registered.decision.to_json(), registry.weights_digest(direction)
    return {"weights": weights, "data": data_digest, "decision": decision, "champion": registered.champion_weights}


def _read(path: Path, stage: str, *needed: str) -> Any:
    """A JSON object that says what is `needed`. Raises UserError naming the stage that makes it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(content, dict) and set(needed) <= set(content)):
            raise ValueError("another content")
        return content
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run dvc repro {stage} first, or dvc pull") from None
    except ValueError:
        raise UserError(f"{path}: damaged; run dvc repro --force {stage}") from None
