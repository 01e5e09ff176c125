"""Which model translates: one that a person names, else the registry's champion of the direction."""

from pathlib import Path

from pipeline.domain import Direction
from pipeline.errors import UserError
from pipeline.serving.translator import Translator


def choose_translator(model: str | None, to: str) -> Translator:
    """The translator that `model` names, which must make `to` (ct or mr); without a name the champion of this direction.

    `model` is a registered model (mr-to-ct@champion, mr-to-ct/3) or a folder with model.json. Raises UserError for any other.
    """
    try:
        direction = Direction.from_target(to)
    except ValueError:
        raise UserError(f"--to {to}: expected ct or mr") from None
    name = model or f"{direction.model_name}@champion"
    if Path(name).is_dir():
        return Translator.from_folder(Path(name), direction)
    if not name.startswith(direction.model_name):
        raise UserError(
            f"--model {name}: does not make {to.upper()}; expected {direction.model_name}, with @alias or /version, or a folder"
        )
    return Translator.from_registry(name)


def reload_if_changed(current: Translator, model: str | None, to: str) -> tuple[Translator, list[str]]:
    """The translator for `model` now: `current`, or another where the name leads to another version since, after a rollback say.

    Where the registry cannot be asked, `current` goes on, with a note that says so.
    """
    from pipeline.tracking.registry import fetch

    name = model or f"{Direction.from_target(to).model_name}@champion"
    if Path(name).is_dir():
        return current, []
    try:
        version = fetch(name)
    except UserError as error:
        return current, [f"made by {current.label}, the last one known; {name} cannot be looked up now ({error})"]
    if (version.version, version.digest) == (current.label.version, current.label.digest):
        return current, []
    return Translator.from_registry(name), []
