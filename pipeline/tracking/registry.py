"""The registry: versions of the two models, how one gets in, how one is found again, and which is champion."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline import paths
from pipeline.atomic import new_folder
from pipeline.domain import DIRECTIONS, Direction
from pipeline.errors import UserError
from pipeline.tracking import answers, packaging, promotion, store
from pipeline.tracking.answers import RegisteredModel
from pipeline.tracking.promotion import BEST, CHAMPION, Decision

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.tracking.runs import Run

CHALLENGER, PREVIOUS = "challenger", "previous"
WEIGHTS, DATA, SCORES, DECISION = "weights_digest", "data_digest", "scores", "decision"
STATISTICS = "data"  # folder of a run's artifacts: what its data looks like, for `ctmr reference`
MODEL_NAMES = tuple(direction.model_name for direction in DIRECTIONS)


def register(
    run: "Run", direction: Direction, scores: Mapping[str, float], card: str, data_digest: str, models: Path = paths.MODELS
) -> "ModelVersion":
    """The version that holds the weights of `direction` in `models`: made when the registry has none, else the one there is.

    Its scores and card are brought up to date either way.
    """
    client = store.client(run.uri)
    name, digest = direction.model_name, weights_digest(direction, models)
    found = find(run.uri, direction, digest)
    if found is None:
        info = packaging.log_model(run, direction, models)
        if not client.search_registered_models(f"name = '{name}'"):
            about = f"Brain {direction.source.upper()} to {direction.target.upper()}, slice by slice"
            client.create_registered_model(name, {"direction": str(direction)}, about)
        tags = {WEIGHTS: digest, "direction": str(direction)}
        found = client.create_model_version(name, info.model_uri, run_id=run.id, tags=tags, model_id=info.model_id)
    for key, value in {DATA: data_digest, SCORES: json.dumps(dict(sorted(scores.items())))}.items():
        client.set_model_version_tag(name, found.version, key, value)
    client.update_model_version(name, found.version, card)
    return found


def weights_digest(direction: Direction, models: Path = paths.MODELS) -> str:
    """SHA-256 of the weights, as models/model.json has it. Raises UserError when it is not there."""
    file = models / paths.MODEL_JSON.name
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["directions"][direction]["sha256"])
    except FileNotFoundError:
        raise UserError(f"{file}: not found; run dvc repro train, or dvc pull") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file}: damaged; restore it with dvc checkout {paths.MODELS}") from None


def find(uri: str, direction: Direction, digest: str) -> "ModelVersion | None":
    """The version with these weights, None when the registry has none."""
    found = store.client(uri).search_model_versions(f"name = '{direction.model_name}' and tags.{WEIGHTS} = '{digest}'", max_results=1)
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
    with store.errors(uri):
        known = versions(uri, name)
        found = alias(uri, name, wanted) if at == "@" else next((one for one in known if str(one.version) == wanted), None)
    if found is None:
        what = f"version {wanted}" if at == "/" else wanted
        numbers = [f"{known.version} ({', '.join(known.aliases) or 'no alias'})" for known in known]
        empty = "it has no versions; dvc repro --single-item --force register fills it"
        has = f"it has versions {', '.join(numbers)}" if numbers else empty
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
    found = sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: -int(version.version))
    for version in found:
        version.aliases = [alias for alias, number in aliases.items() if str(number) == str(version.version)]
    return found


def lost_aliases(uri: str, name: str) -> dict[str, str]:
    """Aliases of a model whose version does not exist, with its number."""
    known = {str(version.version) for version in versions(uri, name)}
    if not known:
        return {}
    return {
        alias: str(number) for alias, number in store.client(uri).get_registered_model(name).aliases.items() if str(number) not in known
    }


def logged_model(version: "ModelVersion") -> str:
    """The id of the logged model with the version's files. MLflow's own `model_id` is None in every version that is looked up."""
    return str(version.source).removeprefix("models:/")


def files(uri: str, version: "ModelVersion") -> Path:
    """The folder with model.json and safetensors of a version. From another machine they are fetched once, into mlruns/fetched."""
    if store.database_file(uri) is not None:
        return _download(uri, version, None)
    place = paths.home() / paths.MLRUNS / "fetched" / f"{version.name}-{version.tags.get(WEIGHTS, '')[:16]}"
    if not place.is_dir():
        with new_folder(place) as folder:
            shutil.copytree(_download(uri, version, folder / "whole"), folder, dirs_exist_ok=True)
            shutil.rmtree(folder / "whole")
    return place


def _download(uri: str, version: "ModelVersion", target: Path | None) -> Path:
    """The model's folder in the files of a version, which lie on this machine, or which MLflow puts into `target`."""
    import mlflow

    client = store.client(uri)
    if target is not None:
        target.mkdir()
    try:
        with store.errors(uri):
            place = urlsplit(str(client.get_logged_model(logged_model(version)).artifact_location))
            if place.scheme == "file":  # MLflow would write beside them, which not everybody may who may read them
                folder = unquote(place.path)
                if not Path(folder).is_dir():
                    raise UserError(f"{folder} is gone")
            else:
                address = f"models:/{version.name}/{version.version}"
                folder = mlflow.artifacts.download_artifacts(address, dst_path=str(target) if target else None)
    except (UserError, OSError) as error:
        raise UserError(f"{version.name} version {version.version}: its files cannot be read ({error}); see ctmr doctor") from None
    return Path(folder) / "artifacts" / packaging.ARTIFACT


def fetch(model: str) -> RegisteredModel:
    """The registered model that `model` names, as `version`, with its files. Raises UserError when there is none, or no store."""
    name, at, wanted = _parts(model)
    uri = store.existing_uri()
    if uri is None:
        raise UserError(f"model {model}: there is no registry here; dvc repro makes one, or name the model in the box: --model box")
    full_name = f"{name}{at}{wanted}"
    if answer := answers.recall(uri, full_name):
        return answer
    found = version(uri, model)
    answer = RegisteredModel(
        name, str(found.version), found.tags.get(WEIGHTS, ""), json.loads(found.tags.get(SCORES, "{}")), files(uri, found)
    )
    answers.keep(uri, full_name, answer)
    return answer


def find_champion(direction: Direction) -> RegisteredModel | None:
    """The champion of `direction`; None where there is none, or no store. Makes no store, and imports MLflow only to ask one.

    Raises UserError where the store cannot be used.
    """
    uri, model = store.existing_uri(), f"{direction.model_name}@{CHAMPION}"
    if uri is None:
        return None
    if answer := answers.recall(uri, model):
        return answer
    with store.errors(uri):
        champion = alias(uri, direction.model_name, CHAMPION)
    return None if champion is None else fetch(model)


def champions() -> dict[str, str]:
    """Digest of each champion's weights, by model; those without a champion are left out. Raises UserError."""
    uri = store.tracking_uri()
    digests = {}
    for name in MODEL_NAMES:
        if answer := answers.recall(uri, f"{name}@{CHAMPION}"):
            digests[name] = answer.digest
            continue
        with store.errors(uri):
            champion = alias(uri, name, CHAMPION)
        if champion is not None:
            digests[name] = champion.tags[WEIGHTS]
    return digests


def decision(version: "ModelVersion") -> Decision | None:
    """What was decided when `version` was registered; None where it was not judged, or by a rule of another release."""
    try:
        return Decision.from_json(json.loads(version.tags[DECISION]))
    except (KeyError, ValueError, TypeError):
        return None


def crown(uri: str, version: "ModelVersion") -> "ModelVersion | None":
    """Make `version` champion. The champion until now becomes `previous`, and is given back; None where it was champion already.

    It becomes the best champion so far as well, unless its decision shows a larger error than that of the best one.
    """
    client = store.client(uri)
    before, best = (alias(uri, version.name, which) for which in (CHAMPION, BEST))
    if before is not None and str(before.version) == str(version.version):
        return None
    if best is None or not promotion.falls_short(decision(version), best.tags.get(WEIGHTS, "")):
        client.set_registered_model_alias(version.name, BEST, version.version)
    if before is not None:
        client.set_registered_model_alias(version.name, PREVIOUS, before.version)
    client.set_registered_model_alias(version.name, CHAMPION, version.version)
    return before


def roll_back(uri: str, name: str) -> "tuple[ModelVersion, ModelVersion]":
    """Champion and previous change places; gives (new champion, old champion). Raises UserError when there is no previous one.

    A champion that is taken back is no longer the best one so far.
    """
    champion, previous, best = version(uri, f"{name}@{CHAMPION}"), alias(uri, name, PREVIOUS), alias(uri, name, BEST)
    if previous is None:
        raise UserError(f"{name}: no champion before version {champion.version}; ctmr models shows what there is")
    client = store.client(uri)
    if best is not None and str(best.version) == str(champion.version):
        client.set_registered_model_alias(name, BEST, previous.version)
    client.set_registered_model_alias(name, CHAMPION, previous.version)
    client.set_registered_model_alias(name, PREVIOUS, champion.version)
    return previous, champion


def _parts(model: str) -> tuple[str, str, str]:
    """`model` as name, "@" or "/", and alias or number; a bare name means its champion. Raises UserError for another name."""
    name, at, wanted = model.partition("@") if "@" in model else model.partition("/")
    if name not in MODEL_NAMES:
        raise UserError(f"model {model}: expected {' or '.join(MODEL_NAMES)}, with @alias or /version")
    return name, at or "@", wanted if at == "/" else wanted or CHAMPION
