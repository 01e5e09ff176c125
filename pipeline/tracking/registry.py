"""The registry: what a registered model consists of, how it gets in, how it is found again. Nothing in it is ever unpickled."""

import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.atomic import write_json
from pipeline.errors import UserError
from pipeline.formats.synthetic import Label
from pipeline.tracking import lookup, store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from pipeline.tracking.runs import Run

NAMES = {direction: direction.replace("_", "-") for direction in paths.DIRECTIONS}
CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
WEIGHTS, DATA, SCORES = "weights_digest", "data_digest", "scores"

_PACKAGE = Path(__file__).parents[1]
_CODE = (
    "__init__.py", "atomic.py", "domain.py", "errors.py", "params.py", "paths.py", "privacy.py", "formats", "imaging", "models", "serving",
)  # fmt: skip
_ARTIFACT = "translator"
_REQUIREMENTS = (
    "mlflow", "nibabel", "numpy", "pillow", "pydantic", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle",
    "pyyaml", "safetensors", "scikit-image", "scipy", "simpleitk", "tifffile", "torch",
)  # fmt: skip


def register(
    run: "Run", direction: str, scores: Mapping[str, float], card: str, data_digest: str, models: Path = paths.MODELS
) -> "ModelVersion":
    """The version that holds the weights of `direction` in `models`: made when the registry has none, else the one there is.

    Its scores and card are brought up to date either way.
    """
    client = store.client(run.uri)
    name, digest = NAMES[direction], weights_digest(direction, models)
    found = find(run.uri, direction, digest)
    if found is None:
        info = _log_model(run, direction, models)
        if not client.search_registered_models(f"name = '{name}'"):
            source, target = direction.upper().split("_TO_")
            client.create_registered_model(name, {"direction": direction}, f"Brain {source} to {target}, slice by slice")
        tags = {WEIGHTS: digest, "direction": direction}
        found = client.create_model_version(name, info.model_uri, run_id=run.id, tags=tags, model_id=info.model_id)
    for key, value in {DATA: data_digest, SCORES: json.dumps(dict(sorted(scores.items())))}.items():
        client.set_model_version_tag(name, found.version, key, value)
    client.update_model_version(name, found.version, card)
    return found


def weights_digest(direction: str, models: Path = paths.MODELS) -> str:
    """SHA-256 of the weights, as models/model.json has it. Raises UserError when it is not there."""
    file = models / paths.MODEL_JSON.name
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["directions"][direction]["sha256"])
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro train, or dvc pull") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: damaged; restore it with dvc checkout {paths.MODELS}") from None


def find(uri: str, direction: str, digest: str) -> "ModelVersion | None":
    """The version with these weights, None when the registry has none."""
    found = store.client(uri).search_model_versions(f"name = '{NAMES[direction]}' and tags.{WEIGHTS} = '{digest}'", max_results=1)
    return found[0] if found else None


def alias(uri: str, name: str, which: str) -> "ModelVersion | None":
    """The version of `name` that bears the alias `which`, None when no version does."""
    from mlflow.exceptions import MlflowException

    try:
        return store.client(uri).get_model_version_by_alias(name, which)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def version(uri: str, model: str) -> "ModelVersion":
    """The version that `model` names: `mr-to-ct@champion`, `mr-to-ct/3`, or `mr-to-ct` for its champion.

    Raises UserError when there is none.
    """
    name, at, wanted = _parts(model)
    found = alias(uri, name, wanted) if at != "/" else _numbered(uri, name, wanted)
    if found is None:
        what = f"version {wanted}" if at == "/" else wanted
        known = [f"{one.version} ({', '.join(one.aliases) or 'no alias'})" for one in versions(uri, name)]
        has = f"it has versions {', '.join(known)}" if known else "it has no versions; dvc repro --single-item --force register fills it"
        raise UserError(f"model {model}: the registry {uri} has no {what} of {name}; {has}")
    return found


def versions(uri: str, name: str) -> "list[ModelVersion]":
    """All versions of a model, the newest first, each with its aliases."""
    from mlflow.exceptions import MlflowException

    client = store.client(uri)
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return []
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda one: -int(one.version))
    for one in found:
        one.aliases = [alias for alias, number in aliases.items() if str(number) == str(one.version)]
    return found


def files(uri: str, found: "ModelVersion") -> Path:
    """The folder with model.json and safetensors of a version, downloaded where the store is elsewhere."""
    import mlflow
    from mlflow.exceptions import MlflowException

    store.client(uri)
    try:
        folder = mlflow.artifacts.download_artifacts(f"models:/{found.name}/{found.version}")
    except (MlflowException, OSError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise UserError(f"{found.name} version {found.version}: its files cannot be read ({first}); try ctmr doctor --fix") from None
    return _translator(Path(folder))


def fetch(model: str) -> tuple[Path, str, Label]:
    """(folder, direction, label) of a registered model, as `Translator.from_registry` needs them. Raises UserError."""
    uri = store.tracking_uri()
    name, at, wanted = _parts(model)
    if quick := lookup.look_up(uri, name, at, wanted):
        folder, number, tags = _translator(quick.folder), quick.number, quick.tags
    else:
        found = version(uri, model)
        folder, number, tags = files(uri, found), str(found.version), found.tags
    label = Label(name, version=number, digest=tags.get(WEIGHTS, ""), scores=json.loads(tags.get(SCORES, "{}")))
    return folder, name.replace("-", "_"), label


def _parts(model: str) -> tuple[str, str, str]:
    """`model` as name, "@" or "/", and alias or number; a bare name means its champion. Raises UserError for another name."""
    name, at, wanted = model.partition("@") if "@" in model else model.partition("/")
    if name not in NAMES.values():
        raise UserError(f"model {model}: expected {' or '.join(NAMES.values())}, with @alias or /version")
    return name, at or "@", wanted if at == "/" else wanted or CHAMPION


def _translator(version_files: Path) -> Path:
    """Where the files of a version hold model.json and the weights."""
    return version_files / "artifacts" / _ARTIFACT


def _numbered(uri: str, name: str, number: str) -> "ModelVersion | None":
    return next((one for one in versions(uri, name) if str(one.version) == number), None)


def _log_model(run: "Run", direction: str, models: Path) -> Any:
    import mlflow
    from mlflow.models import Model

    mlflow.set_experiment(experiment_id=run.experiment)  # else its files would lie beside the run's
    with TemporaryDirectory() as folder:
        return Model.log(
            artifact_path=None,
            name=NAMES[direction],
            flavor=mlflow.pyfunc,
            run_id=run.id,
            python_model=str(_PACKAGE / "serving/pyfunc.py"),
            artifacts={_ARTIFACT: str(_one_direction(models, direction, Path(folder) / _ARTIFACT))},
            code_paths=[str(_code(Path(folder) / "pipeline"))],
            signature=_signature(),
            input_example=_example(),
            pip_requirements=requirements(),
        )


def _one_direction(models: Path, direction: str, target: Path) -> Path:
    """A folder like models/, with the weights of one direction only and nothing about the run."""
    target.mkdir(parents=True)
    facts = json.loads((models / paths.MODEL_JSON.name).read_text(encoding="utf-8"))
    facts["directions"] = {direction: facts["directions"][direction]}
    weights = facts["directions"][direction]["weights"]
    shutil.copyfile(models / weights, target / weights)
    write_json(target / paths.MODEL_JSON.name, facts)
    return target


def _code(target: Path) -> Path:
    """The part of this package that translation needs, so that a registered model works where the project is not installed."""
    target.mkdir()
    for name in _CODE:
        source = _PACKAGE / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target / name)
    return target


def requirements() -> list[str]:
    """What a registered model needs, pinned to the versions in use; a local build such as torch 2.13.0+cpu under its public version."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def _signature() -> "ModelSignature":
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    pixels = Schema([TensorSpec(np.dtype(np.float32), (-1, -1, -1))])
    choices = ParamSchema([ParamSpec("unit", "string", "picture"), ParamSpec("contrast", "string", ""), ParamSpec("image", "string", "")])
    return ModelSignature(inputs=pixels, outputs=pixels, params=choices)


def _example() -> Any:
    """One drawn slice (1, 64, 64): a bright ring around a grey disk, in which either direction finds a head."""
    import numpy as np

    down, right = np.mgrid[-1:1:64j, -1:1:64j]
    distance = np.hypot(down / 0.8, right / 0.65)
    return np.where(distance < 0.85, 0.4, np.where(distance < 1, 0.9, 0))[None].astype(np.float32)
