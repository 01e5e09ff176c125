"""What the MLflow store need not keep: versions without an alias that nobody asks for any more, and their runs, for good."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.errors import UserError
from pipeline.tracking import registry, store
from pipeline.tracking.registry import MODEL_NAMES, WEIGHTS

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def aliased_weights() -> set[str]:
    """Digests of the weights of every version that bears an alias. Raises UserError when the store cannot be asked."""
    return {version.tags[WEIGHTS] for version in _versions() if version.aliases}


def unneeded_versions(weights: Collection[str]) -> "list[ModelVersion]":
    """The versions with one of these `weights` that bear no alias. Raises UserError when the store cannot be asked."""
    return [version for version in _versions() if version.tags.get(WEIGHTS) in weights and not version.aliases]


def artifact_bytes(versions: "Collection[ModelVersion]") -> int:
    """Bytes of the versions' files and of their runs', as far as these lie in folders on this machine."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.errors(uri):
        places = {client.get_run(version.run_id).info.artifact_uri for version in versions if version.run_id}
        places |= {client.get_logged_model(version.model_id).artifact_location for version in versions if version.model_id}
    folders = [Path(unquote(urlsplit(place).path)) for place in places if urlsplit(place).scheme in ("", "file")]
    return sum(file.lstat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def remove_versions(versions: "Collection[ModelVersion]") -> None:
    """Delete the versions, and for good the runs that have no other one, with all their files. Raises UserError when MLflow fails."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.errors(uri):
        for version in versions:
            client.delete_model_version(version.name, version.version)
            if version.model_id:
                client.delete_logged_model(version.model_id)
        still_needed = {version.run_id for version in _versions()}
        runs = sorted({str(version.run_id) for version in versions if version.run_id} - {str(run) for run in still_needed})
        for run in runs:
            client.delete_run(run)
    if not runs or store.is_server(uri):
        return  # a server's own `mlflow gc` removes the files, and asks its operator when
    # MLflow offers the removal for good as a command only.
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri, "--tracking-uri", uri, "--run-ids", ",".join(runs)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"mlflow gc failed: {(ended.stderr.strip().splitlines() or ['it printed nothing'])[-1]}")


def _versions() -> "list[ModelVersion]":
    uri = store.tracking_uri()
    with store.errors(uri):
        return [version for name in MODEL_NAMES for version in registry.versions(uri, name)]
