"""Which model translates: one that a person names, else the registry's champion of the direction, else the model in the box."""

from pathlib import Path

from pipeline import paths
from pipeline.domain import Direction, Modality
from pipeline.errors import UserError, mask_credentials
from pipeline.formats.slices import UnknownValues
from pipeline.formats.table import read_volume
from pipeline.serving.translator import Translator

CHAMPION = "champion"


def choose_translator(model: str | None, to: str) -> Translator:
    """The translator that `model` names, which must make `to` (ct or mr); without a name the champion, or else the model in the box.

    `model` is a registered model (mr-to-ct@champion, mr-to-ct/3), the word box, or a folder with model.json. Raises UserError for any
    other, and where the registry cannot be asked: another model than the one that was meant never translates silently.
    """
    direction = _direction(to)
    if model is None:
        from pipeline.tracking.registry import find_champion

        champion = find_champion(direction)
        return Translator.from_version(champion) if champion else Translator.from_box(direction)
    if model == paths.IN_THE_BOX:
        return Translator.from_box(direction)
    if Path(model).is_dir():
        return Translator.from_folder(Path(model), direction)
    if not model.startswith(direction.model_name):
        raise UserError(
            f"--model {model}: does not make {to.upper()}; expected {direction.model_name}, with @alias or /version, a folder, or box"
        )
    return Translator.from_registry(model)


def reload_if_changed(current: Translator, model: str | None, to: str) -> tuple[Translator, list[str]]:
    """The translator for `model` now: `current`, or another where the name leads to another version since, after a rollback say.

    Where the registry cannot be asked, or has no champion any more, `current` goes on, with a note that says so.
    """
    from pipeline.tracking.registry import fetch, find_champion

    if model is not None and (model == paths.IN_THE_BOX or Path(model).is_dir()):
        return current, []
    direction = _direction(to)
    try:
        version = find_champion(direction) if model is None else fetch(model)
    except UserError as error:
        name = model or f"{direction.model_name}@{CHAMPION}"
        return current, [f"made by {current.label}, the last one known; {name} cannot be looked up now ({error})"]
    if version is None:
        gone = f"made by {current.label}, the last one known; {direction.model_name} has no champion now"
        return current, [] if current.label.in_the_box else [gone]
    if (version.version, version.digest) == (current.label.version, current.label.digest):
        return current, []
    return Translator.from_version(version), []


def describe_choice(translator: Translator, model: str | None) -> str:
    """One line: which model translates, and why where nobody named it."""
    label, what = translator.label, f"{translator.direction.arrow} by {translator.label}"
    if label.in_the_box:
        what += ", taught by simulated heads alone"
    if model is not None:
        return what
    if not label.in_the_box:
        return f"{what}, {CHAMPION} in {_registry()}"
    from pipeline.tracking import store

    return f"{what}; " + ("there is no registry here" if store.existing_uri() is None else f"no {CHAMPION} in {_registry()}")


def choose_folder(model: str | None) -> Path:
    """The folder of both models that `model` names, the word box or a folder; without a name models/, else the model in the box."""
    if model is not None:
        return paths.models_named(model)
    return paths.MODELS if paths.MODEL_JSON.is_file() or not paths.has_box() else paths.BOX


def recognise_target(source: Path, ct_values: str) -> str:
    """What is to be made of `source`, a file or a DICOM series: the other of what it says, or its numbers show, that it is.

    Raises UserError where neither tells, as with pictures, and as `read_volume`.
    """
    volume = read_volume(source)
    if volume.modality:
        return Modality(volume.modality).other
    if not volume.calibrated:
        raise UserError(f"{source}: a picture does not say whether it is CT or MR; add --to ct or --to mr")
    if ct_values != "auto":
        return Modality.MR
    try:
        known = read_volume(source, Modality.CT).unit == "hu"
    except UnknownValues:  # neither Hounsfield units nor those plus an offset, which a CT volume would hold
        known = False
    return Modality.MR if known else Modality.CT


def _direction(to: str) -> Direction:
    try:
        return Direction.from_target(to)
    except ValueError:
        raise UserError(f"--to {to}: expected ct or mr") from None


def _registry() -> str:
    """The registry in use, for people."""
    from pipeline.tracking import store

    uri = store.tracking_uri()
    file = store.database_file(uri)
    if file is None:
        return mask_credentials(uri)
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
