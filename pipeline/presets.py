"""Named sets of changes to params.yaml, applied in place so that its comments stay."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def apply(name: str | None, settings: list[str] | None = None, target: Path = paths.PARAMS, folder: Path = paths.PRESETS) -> list[Change]:
    """Change `target` as preset `name` (None: no preset) and then `settings` (each "dotted.key=value") say; return what changed.

    Raises UserError, leaving `target` as it was, when the preset or a key doesn't exist or the result isn't valid.
    """
    content = _read(target)
    wanted = _wanted(name, folder) if name else {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: expected KEY=VALUE, such as train.images=500")
        wanted[key.strip()] = _value(setting, value)
    changes = [change for key, value in wanted.items() if (change := _set(content, key, value, str(target))).old != change.new]
    text = io.StringIO()
    _yaml().dump(content, text)
    params.parse(YAML(typ="safe").load(text.getvalue()), f"{target} with {name or 'these settings'}")
    if changes:
        with new_file(target) as beside:
            beside.write_text(text.getvalue(), encoding="utf-8")
    return changes


def _read(path: Path) -> CommentedMap:
    try:
        content = _yaml().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run this in the project's folder") from None
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, CommentedMap):
        raise UserError(f"{path}: expected sections such as data: and train:, found {type(content).__name__}")
    return content


def _wanted(name: str, folder: Path) -> dict[str, Any]:
    """The preset as dotted keys with their values."""
    file = folder / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"preset {name}: there is none of this name in {folder}/; choose one of {', '.join(available(folder))}")
    return dict(_flat(_read(file)))


def _flat(section: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for key, value in section.items()
        for pair in (_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    ]


def _value(setting: str, text: str) -> Any:
    try:
        return YAML(typ="safe").load(text)
    except YAMLError:
        raise UserError(f"--set {setting}: the value is not valid YAML") from None


def _set(content: CommentedMap, key: str, value: Any, source: str) -> Change:
    *sections, knob = key.split(".")
    place: Any = content
    for section in sections:
        place = place.get(section) if isinstance(place, dict) else None
    if not isinstance(place, dict) or knob not in place or isinstance(place[knob], dict):
        raise UserError(f"{source}: {key} is not a known key; see params.yaml for the keys there are")
    change = Change(key, place[knob], value)
    if change.old != change.new:
        place[knob] = value
    return change


def shown(value: Any) -> str:
    """`value` as params.yaml writes it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
