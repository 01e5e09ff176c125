"""What the MLflow store need not keep: versions without an alias that nobody asks for any more, and their runs."""

from collections.abc import Collection
from typing import TYPE_CHECKING

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
    """Bytes of the versions' files and of their runs', wherever they lie. Raises UserError when the store cannot be asked."""
    uri = store.tracking_uri()
    client = store.client(uri)
    with store.errors(uri):
        places = {client.get_run(version.run_id).info.artifact_uri for version in versions if version.run_id}
        places |= {client.get_logged_model(registry.logged_model(version)).artifact_location for version in versions}
        return sum(_size(place) for place in places)


def remove_versions(versions: "Collection[ModelVersion]") -> None:
    """Delete the versions, and the runs that have no other one, with all their files. Raises UserError when MLflow fails.

    `mlflow gc` was tried: it empties the trash of the whole store, other projects' experiments included. What is deleted here lies in that
    trash as well, without its files: some lines in the database.
    """
    uri = store.tracking_uri()
    client = store.client(uri)

    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    places = []
    with store.errors(uri):
        for version in versions:
            client.delete_model_version(version.name, version.version)
            model = registry.logged_model(version)
            places.append(client.get_logged_model(model).artifact_location)
            client.delete_logged_model(model)
        still_needed = {str(version.run_id) for version in _versions()}
        for run in sorted({str(version.run_id) for version in versions if version.run_id} - still_needed):
            places.append(client.get_run(run).info.artifact_uri)
            client.delete_run(run)
        for place in places:
            get_artifact_repository(place).delete_artifacts()


def _size(place: str, folder: str | None = None) -> int:
    """Bytes of all files at an artifacts' address."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    entries = get_artifact_repository(place).list_artifacts(folder)
    return sum(_size(place, entry.path) if entry.is_dir else int(entry.file_size or 0) for entry in entries)


def _versions() -> "list[ModelVersion]":
    uri = store.tracking_uri()
    with store.errors(uri):
        return [version for name in MODEL_NAMES for version in registry.versions(uri, name)]
