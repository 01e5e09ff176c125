"""What the data of a registered model looked like: kept with its run, so that later data can be compared with it (drift)."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline import paths, presets
from pipeline.atomic import new_file
from pipeline.errors import UserError
from pipeline.tracking import registry, store

FOLDER = "data"  # of a run's artifacts


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
            found = Path(store.client(uri).download_artifacts(str(version.run_id), f"{FOLDER}/{paths.STATISTICS_JSON.name}", folder))
            content = found.read_bytes()
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
