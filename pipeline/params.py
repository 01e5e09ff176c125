"""params.yaml as one typed, validated, frozen object; read once, unknown and missing keys refused."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline import paths
from pipeline.errors import UserError
from pipeline.sections import Data, Evaluate, Floors, Kaggle, Phantom, Preprocess, Quality, Register, Section, Split, Window
from pipeline.training_sections import Model, Teacher, Train

__all__ = [
    "Data", "Evaluate", "Floors", "Kaggle", "Model", "Params", "Phantom", "Preprocess", "Quality", "Register", "Split", "Teacher",
    "Train", "Window", "flatten", "load", "meanings", "parse", "read_yaml", "schema",
]  # fmt: skip


class Params(Section):
    """All of params.yaml."""

    data: Data = Data()
    quality: Quality = Quality()
    split: Split = Split()
    preprocess: Preprocess = Preprocess()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Annotated[Register, Field(alias="register")] = Register()

    @model_validator(mode="after")
    def _teacher_has_pairs(self) -> "Params":
        if self.train.teacher.images > 0 and self.preprocess.teacher_pairs == 0:
            raise ValueError(
                "train.teacher.images > 0 needs simulated pairs: set preprocess.teacher_pairs above 0, or train.teacher.images to 0"
            )
        return self

    @model_validator(mode="after")
    def _pairs_for_training(self) -> "Params":
        if self.train.pairs.images > 0 and self.split.pairs == "test":
            raise ValueError("train.pairs.images > 0 needs registered pairs to train on: set split.pairs to grouped, or the former to 0")
        return self

    @model_validator(mode="after")
    def _networks_possible(self) -> "Params":
        model, train, pixels = self.model, self.train, self.preprocess.pixels
        side = {"unet_128": 128, "unet_256": 256}.get(model.generator, 1)
        if pixels % side:
            raise ValueError(f"model.generator = {model.generator} needs preprocess.pixels in multiples of {side}, not {pixels}")
        if model.discriminator == "patch" and pixels // 2**model.discriminator_layers < 3:
            raise ValueError(f"model.discriminator_layers = {model.discriminator_layers} are too many for preprocess.pixels = {pixels}")
        if model.norm == "batch" and train.gan_loss == "wgan_gp":
            raise ValueError("train.gan_loss = wgan_gp judges each image's gradient, which model.norm = batch mixes; use instance or none")
        if model.norm == "batch" and train.devices > 1:
            raise ValueError("model.norm = batch needs the whole batch on one device; use instance or none, or train.devices = 1")
        return self


def flatten(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every knob of a nested section under its dotted name, such as `train.batch_size`, in order."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= flatten(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return flat


def parse(content: Any, source: str) -> Params:
    """Validate `content` (the parsed YAML). Raises UserError naming the first bad key, its value and what is allowed."""
    if not isinstance(content, dict):
        raise UserError(f"{source}: expected sections such as data: and train:, found {type(content).__name__}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError(_complaint(error, source)) from None
    for key in _missing(params):
        raise UserError(f"{source}: {key} is missing; ctmr params prints what each key means, and its default")
    return params


def _missing(section: BaseModel, above: str = "") -> Iterator[str]:
    """Keys that were not given; a section that has defaults is valid without them, a file must say everything."""
    for name, field in type(section).model_fields.items():
        key, value = above + (field.alias or name), getattr(section, name)
        if name not in section.model_fields_set:
            yield key
        elif isinstance(value, BaseModel):
            yield from _missing(value, f"{key}.")


def _complaint(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f"{source}: {key}" if key else source
    if first["type"] == "extra_forbidden":
        return f"{where} is not a known key; remove it or mend its spelling"
    what = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], (dict, BaseModel)) else f" = {first['input']!r}"
    return f"{where}{value}: {what[0].lower()}{what[1:]}"


def read_yaml(path: Path, reader: YAML | None = None) -> Any:
    """Content of a YAML 1.2 file, as DVC reads it: 2e-4 is a number, yes is a word. Raises UserError when it is missing or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run this in the project's folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    return parse_yaml(text, str(path), reader)


def parse_yaml(text: str, source: str, reader: YAML | None = None) -> Any:
    """Content of YAML 1.2. Raises UserError, naming `source`, where it is none, or only some programs can tell what it means (`!tag`)."""
    try:
        return (reader or YAML(typ="safe")).load(text)
    except RecursionError:
        raise UserError(f"{source}: not valid YAML: brackets inside brackets without end") from None
    except YAMLError as error:
        raise UserError(f"{source}: not valid YAML: {_yaml_problem(error, text)}") from None


def _yaml_problem(error: YAMLError, text: str) -> str:
    """The line that is wrong and why; ruamel's own message has five lines, and says of a merge conflict what it breaks elsewhere."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(("<<<<<<< ", ">>>>>>> ")):
            return f"line {number}: a merge conflict of git ({line}); keep one of the two sides"
    if not isinstance(error, MarkedYAMLError) or not error.problem or not error.problem_mark:
        return str(error)
    what = f"{error.context}, {error.problem}" if error.problem.startswith("but ") else error.problem
    return f"line {error.problem_mark.line + 1}: {what}"


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate `path`. Raises UserError when it is missing, not YAML, or holds an unknown key or impossible value."""
    return parse(read_yaml(path), str(path))


def meanings(section: BaseModel, above: str = "") -> dict[str, tuple[Any, str]]:
    """Value and meaning of every knob of `section`, by its dotted name, in order."""
    told: dict[str, tuple[Any, str]] = {}
    for name, field in type(section).model_fields.items():
        key, value = above + (field.alias or name), getattr(section, name)
        told |= meanings(value, f"{key}.") if isinstance(value, BaseModel) else {key: (value, field.description or "")}
    return told


def schema() -> dict[str, Any]:
    """params.yaml as JSON schema, for editors that complete and check it; each key with its meaning, range and default."""
    return Params.model_json_schema(by_alias=True)
