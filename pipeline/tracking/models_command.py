"""`ctmr models`, `promote`, `rollback` and `reference`: what the registry holds, and a person's word about it."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline import paths, presets
from pipeline.atomic import new_file
from pipeline.domain import SCORES
from pipeline.errors import UserError, mask_credentials
from pipeline.tables import print_table
from pipeline.tracking import promotion, registry, store
from pipeline.tracking.box_registration import ORIGIN
from pipeline.tracking.registry import CHAMPION

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

COLUMNS = {"mae": "MAE", "ssim": "SSIM", "cycle_mae": "cycle MAE"}


def show_models() -> None:
    """Print a table of all versions: aliases, scores on the test slices, whether the rule was met and where it was not."""
    uri = store.existing_uri()
    if uri is None:
        print("there is no registry here yet; dvc repro fills one, ctmr models --register-box begins one with the model in the box")
        return
    rows = []
    with store.errors(uri):
        for name in registry.MODEL_NAMES:
            for version in registry.versions(uri, name):
                scores = json.loads(version.tags.get(registry.SCORES, "{}"))
                figures = [f"{scores[key]:.{SCORES[key].digits}f}" if key in scores else "–" for key in COLUMNS]
                rows.append((f"{name}/{version.version}", ", ".join(sorted(version.aliases)), *figures, _verdict(version)))
    if rows:
        print_table(("model", "aliases", *COLUMNS.values(), "when registered"), rows)
    else:
        print(f"the registry {mask_credentials(uri)} is empty; dvc repro --single-item --force register fills it from models/")


def promote(name: str, number: str) -> None:
    """Make a version champion by a person's word, whatever the rule says. Raises UserError when there is no such version."""
    uri = store.tracking_uri()
    version = registry.version(uri, f"{name}/{number}")
    with store.errors(uri):
        champion = registry.alias(uri, name, CHAMPION)
        if champion is not None and str(champion.version) == str(version.version):
            print(f"{name} version {number} is the champion already")
            return
        before = registry.crown(uri, version)
        store.client(uri).set_model_version_tag(name, version.version, "promoted", "by hand")
    print(f"{name}: version {number} is champion" + (f", version {before.version} is previous" if before else ""))


def rollback(name: str) -> None:
    """Champion and previous change places. Raises UserError when there is no previous champion."""
    if name not in registry.MODEL_NAMES:
        raise UserError(f"model {name}: expected {' or '.join(registry.MODEL_NAMES)}")
    uri = store.tracking_uri()
    with store.errors(uri):
        champion, before = registry.roll_back(uri, name)
    print(f"{name}: version {champion.version} is champion again, version {before.version} is previous")


def use_data_of(model: str) -> Path:
    """Compare from now on with the data of `model` (such as mr-to-ct@champion): its statistics become quality.drift_reference.

    The file is named after its content, so that DVC validates again exactly when the reference is another one. Raises UserError when
    there is no such model or its run holds no statistics.
    """
    from mlflow.exceptions import MlflowException

    uri = store.tracking_uri()
    version = registry.version(uri, model)
    with store.errors(uri), TemporaryDirectory() as folder:
        try:
            place = f"{registry.STATISTICS}/{paths.STATISTICS_JSON.name}"
            content = Path(store.client(uri).download_artifacts(str(version.run_id), place, folder)).read_bytes()
        except (MlflowException, OSError):
            raise UserError(
                f"{version.name} version {version.version}: its run {version.run_id} holds no statistics of its data;"
                f" name a {paths.STATISTICS_JSON.name} in quality.drift_reference yourself"
            ) from None
    statistics = paths.REFERENCES / f"{hashlib.sha256(content).hexdigest()[:12]}.json"
    with new_file(statistics) as beside:
        beside.write_bytes(content)
    presets.apply([], [f"quality.drift_reference={statistics}"])
    return statistics


def _verdict(version: "ModelVersion") -> str:
    """One line about what was decided: by the rule or by hand, and the conditions that failed."""
    decision = registry.decision(version)
    if decision is None and ORIGIN in version.tags:
        return f"{version.tags[ORIGIN]}; not judged"
    if version.tags.get("promoted") == "by hand":
        return "promoted by hand"
    if decision is None:
        return "not judged"
    if decision.promoted:
        return "promoted"
    return "waits for a person" if decision.waits else "failed: " + ", ".join(promotion.label(check) for check in decision.failed)
