"""Aliases move: challenger, champion, previous; each decision with its reasons in the version's tags."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.tracking import registry, store
from pipeline.tracking.gate import Check
from pipeline.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

DECISION = "decision"


@dataclass(frozen=True)
class Decision:
    """promoted: whether the version became champion; reasons: the sentences behind it; compared_with: weights of the champion then.

    against: the paired comparison with that champion in numbers, empty where there was none.
    """

    promoted: bool
    reasons: list[str]
    compared_with: str = ""
    against: dict[str, Any] = field(default_factory=dict)


def remembered(version: "ModelVersion", basis: str) -> Decision | None:
    """The decision on `version` that was taken on the same `basis` (digest of scores and rules): a repetition decides nothing anew."""
    content = json.loads(version.tags.get(DECISION, "{}"))
    if content.get("basis") != basis:
        return None
    return Decision(content["promoted"], content["reasons"], content["compared_with"], content.get("against", {}))


def verdict(version: "ModelVersion") -> str:
    """One line about the decision on `version`: champion, or the first reason against it."""
    content = json.loads(version.tags.get(DECISION, "{}"))
    if not content:
        return "not judged"
    against = [reason for reason in content["reasons"] if ": NO" in reason]
    return "passed" if content["promoted"] else (against or content["reasons"])[-1]


def basis(*facts: Any) -> str:
    """Digest of all that a decision rests on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def decide(uri: str, version: "ModelVersion", checks: list[Check], mode: str, basis: str, compared_with: str = "") -> Decision:
    """Give `version` the alias challenger and, when every check passed and `mode` is auto, champion; write why into its tags."""
    client = store.client(uri)
    client.set_registered_model_alias(version.name, CHALLENGER, version.version)
    failed = [check for check in checks if not check.passed]
    reasons = [f"{check.name}: {'yes' if check.passed else 'NO'} ({check.reason})" for check in checks]
    if mode == "manual":
        reasons.append(f"promotion is manual: ctmr promote {version.name} {version.version}")
    against = next((check.against for check in checks if check.against), {})
    decision = Decision(not failed and mode == "auto", reasons, compared_with, against)
    if decision.promoted:
        promote(uri, version)
    content = {"promoted": decision.promoted, "reasons": reasons, "compared_with": compared_with, "against": against, "basis": basis}
    client.set_model_version_tag(version.name, version.version, DECISION, json.dumps(content))
    client.set_model_version_tag(version.name, version.version, "promoted", str(decision.promoted).lower())
    return decision


def promote(uri: str, version: "ModelVersion") -> "ModelVersion | None":
    """Make `version` champion; the champion until now becomes `previous`, and is given back."""
    client = store.client(uri)
    before = registry.alias(uri, version.name, CHAMPION)
    if before is not None and str(before.version) == str(version.version):
        return None
    if before is not None:
        client.set_registered_model_alias(version.name, PREVIOUS, before.version)
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
    return before


def rollback(uri: str, name: str) -> "tuple[ModelVersion, ModelVersion]":
    """Champion and previous change places; gives (new champion, old champion). Raises UserError when there is no previous one."""
    champion, previous = registry.version(uri, f"{name}@{CHAMPION}"), registry.alias(uri, name, PREVIOUS)
    if previous is None:
        raise UserError(f"{name}: no champion before version {champion.version}; ctmr models shows what there is")
    client = store.client(uri)
    client.set_registered_model_alias(name, CHAMPION, previous.version)
    client.set_registered_model_alias(name, PREVIOUS, champion.version)
    return previous, champion
