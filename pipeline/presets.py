"""Presets: named sets of values for params.yaml, each a complete statement, written in place so that comments stay.

A preset's file says only what differs from the committed params (`params.Params()`). Applying it sets every other knob back to its
committed value, so that the result never depends on what was applied before.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline import params, paths
from pipeline.atomic import new_file
from pipeline.errors import UserError


@dataclass(frozen=True)
class Change:
    """One knob that got another value; `key` is dotted."""

    key: str
    old: Any
    new: Any


_NULL = ("", "~", "null", "Null", "NULL")  # what YAML takes for nothing


class _Representer(RoundTripRepresenter):
    """Writes null as `null`, as params.yaml does, where ruamel's own writes nothing."""


_Representer.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def available(folder: Path = paths.PRESETS) -> dict[str, str]:
    """Names of the presets in `folder`, each with its description: the comment on its first line."""
    return {file.stem: file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for file in sorted(folder.glob("*.yaml"))}


def complete(names: Sequence[str], folder: Path = paths.PRESETS) -> dict[str, Any]:
    """Every knob, by its dotted name, with the value that the presets `names` give it; a later one wins over an earlier one.

    Raises UserError when there is no such preset.
    """
    knobs = params.flatten(params.Params().model_dump(by_alias=True))
    for name in names:
        file = folder / f"{name}.yaml"
        if not file.is_file():
            raise UserError(f"preset {name}: there is none of this name in {folder}/; choose one of {', '.join(available(folder))}")
        knobs |= params.flatten(params.read_yaml(file) or {})
    return knobs


def nest(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs by their dotted names as the sections that params.yaml has."""
    content: dict[str, Any] = {}
    for key, value in knobs.items():
        *sections, name = key.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return content


def name_of(knobs: Mapping[str, Any], folder: Path = paths.PRESETS) -> str:
    """The preset that all `knobs`, by their dotted names, agree with; "" when there is none."""
    return next((name for name in available(folder) if complete([name], folder) == knobs), "")


def apply(names: Sequence[str], settings: Sequence[str] = (), target: Path = paths.PARAMS, folder: Path = paths.PRESETS) -> list[Change]:
    """Set every knob of `target` as the presets `names` (none: leave it as it is) and then `settings` say; return what changed.

    A setting is "dotted.key=value". Raises UserError, leaving `target` as it was, when a preset or a key doesn't exist or the result
    isn't valid.
    """
    changes, text = _apply(names, settings, target, folder)
    if changes:
        with new_file(target) as beside:
            beside.write_text(text, encoding="utf-8")
    return changes


def check(settings: Sequence[str], target: Path = paths.PARAMS) -> None:
    """Raises UserError where `apply` would refuse `settings`; changes nothing."""
    _apply((), settings, target, paths.PRESETS)


def _apply(names: Sequence[str], settings: Sequence[str], target: Path, folder: Path) -> tuple[list[Change], str]:
    """What changes, and the text of `target` with it."""
    content = params.read_yaml(target, _yaml())
    if not isinstance(content, CommentedMap):
        raise UserError(f"{target}: expected sections such as data: and train:, found {type(content).__name__}")
    wanted = complete(names, folder) if names else {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected KEY=VALUE, such as train.images=500")
        if any("\ud800" <= letter <= "\udfff" for letter in value):  # a byte of a file's name that is no UTF-8
            raise UserError(f"--set {setting!r}: not UTF-8, as params.yaml is; rename the file or folder")
        wanted[key.strip()] = _value(key.strip(), value, setting)
    changes = [change for key, value in wanted.items() if (change := _set(content, key, value, str(target))).old != change.new]
    text = io.StringIO()
    _yaml().dump(content, text)
    source = f"{target} with {' and '.join(names) or 'these settings'}"
    params.parse(params.parse_yaml(text.getvalue(), source), source)
    return changes, text.getvalue()


def write_complete(chosen: params.Params, target: Path) -> None:
    """Write every knob of `chosen` to `target`, as YAML that `params.load` reads."""
    with target.open("w", encoding="utf-8") as file:
        _yaml().dump(chosen.model_dump(mode="json", by_alias=True), file)


def _value(key: str, text: str, setting: str) -> Any:
    """`text` as the value of the knob `key`: words as they stand, so that a path may hold `#` or `:`; everything else as YAML."""
    field = _field(key)
    takes_words = field is not None and str in (field.annotation, *get_args(field.annotation))
    if takes_words and text in _NULL:
        return None
    try:
        value = YAML(typ="safe").load(text)
    except YAMLError:
        value = text
        if not takes_words:
            raise UserError(f"--set {setting}: the value is not valid YAML") from None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text if takes_words and not (quoted and isinstance(value, str)) else value


def _field(key: str) -> FieldInfo | None:
    """The field of Params that the dotted `key` names."""
    fields: dict[str, FieldInfo] = params.Params.model_fields
    *sections, knob = key.split(".")
    for section in sections:
        field = next((field for name, field in fields.items() if section in (name, field.alias)), None)
        fields = getattr(field.annotation, "model_fields", {}) if field else {}
    return fields.get(knob)


def _set(content: CommentedMap, key: str, value: Any, source: str) -> Change:
    *sections, knob = key.split(".")
    place: Any = content
    for section in sections:
        place = place.get(section) if isinstance(place, dict) else None
    if not isinstance(place, dict) or knob not in place or isinstance(place[knob], dict):
        if (field := _field(key)) is not None and not hasattr(field.annotation, "model_fields"):
            raise UserError(f"{source}: {key} is missing, or its section is; git checkout {source} brings back what git has")
        raise UserError(f"{source}: {key} is not a known key; ctmr params prints the keys there are")
    change = Change(key, place[knob], value)
    if change.old != change.new:
        place[knob] = value
    return change


def as_written(value: Any) -> str:
    """`value` as params.yaml writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
