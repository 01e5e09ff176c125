"""params.yaml as typed, validated, frozen objects; read once, unknown keys refused."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import paths
from pipeline.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Kaggle(Section):
    handle: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    version: PositiveInt


class Phantom(Section):
    subjects: PositiveInt
    test_subjects: PositiveInt
    slices: PositiveInt
    pixels: Annotated[int, Field(ge=64, le=1024)]
    seed: Annotated[int, Field(ge=0)]


class Data(Section):
    """Where slices come from."""

    source: Literal["phantom", "kaggle", "folder"]
    mr_contrast: Literal["any", "t1", "t2", "flair", "pd"]
    kaggle: Kaggle
    folder: str | None
    phantom: Phantom

    @model_validator(mode="after")
    def _folder_named(self) -> "Data":
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, so data.folder must name a directory or archive")
        return self


class Quality(Section):
    """Which images are fit for use."""

    min_side: PositiveInt
    max_aspect: Annotated[float, Field(ge=1)]
    min_contrast: Share
    max_border: Share
    max_colour: Share
    max_saturated: Share
    wrong_modality: Annotated[float, Field(ge=0.5, le=1)]
    warn_marks: PositiveInt
    max_quarantined: Share
    drift_reference: str | None


class Split(Section):
    """Shares of groups, and what makes slices one group."""

    val: Share
    test: Share
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)]
    neighbour_block: Annotated[int, Field(ge=0)]
    keep_source_test: bool
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _something_left(self) -> "Split":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g} leaves nothing to train on; their sum must be below 1")
        return self


class Window(Section):
    """Display window in Hounsfield units."""

    level: float
    width: Annotated[float, Field(gt=0)]


class Preprocess(Section):
    """From source pixels to network pixels."""

    pixels: Annotated[int, Field(ge=32, le=1024, multiple_of=4)]
    margin: Annotated[float, Field(ge=0, le=0.5)]
    upright: bool
    ct_window: Window
    mr_percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)]
    bits: Literal[8, 16]
    teacher_pairs: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _rising(self) -> "Preprocess":
        if self.mr_percentiles[0] >= self.mr_percentiles[1]:
            raise ValueError(f"mr_percentiles = {self.mr_percentiles} must rise")
        return self


class Model(Section):
    """Architecture of generators and discriminators."""

    generator: Literal["resnet_6", "resnet_9", "unet_128", "unet_256"]
    generator_width: PositiveInt
    upsampling: Literal["transpose", "resize"]
    norm: Literal["instance", "batch", "none"]
    initialisation: Literal["normal", "xavier", "kaiming", "orthogonal"]
    discriminator: Literal["patch", "pixel"]
    discriminator_layers: Annotated[int, Field(ge=1, le=6)]
    discriminator_width: PositiveInt
    condition_on_contrast: bool


class Teacher(Section):
    """Supervision by simulated pairs."""

    images: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight: Weight
    augment: bool


class Train(Section):
    """How long and how training goes."""

    device: Literal["auto", "cpu", "cuda"]
    devices: PositiveInt
    precision: Literal["auto", "float32", "tf32", "bfloat16"]
    compile: bool
    start_from: str | None
    seed: Annotated[int, Field(ge=0)]
    images: Annotated[int, Field(ge=0)]
    epochs: PositiveInt | None
    batch_size: PositiveInt
    learning_rate: Annotated[float, Field(gt=0)]
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]
    schedule: Literal["linear", "step", "cosine", "plateau"]
    decay_from: Share
    decay_factor: Annotated[float, Field(gt=0, lt=1)]
    patience: PositiveInt
    clip_gradients: Weight
    gan_loss: Literal["lsgan", "vanilla", "wgan_gp", "hinge"]
    lambda_cycle: Weight
    lambda_identity: Weight
    lambda_adversarial: Weight
    pool_size: Annotated[int, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    crop: Annotated[float, Field(ge=0, le=0.5)]
    affine: bool
    teacher: Teacher
    checkpoint_seconds: Annotated[float, Field(gt=0)]
    sample_images: PositiveInt
    keep_best: bool
    stop_after: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _possible(self) -> "Train":
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size = {self.batch_size} cannot be shared by devices = {self.devices}; make it a multiple")
        if self.precision == "tf32" and self.device == "cpu":
            raise ValueError("precision = tf32 is of GPUs; set it to float32 for device = cpu")
        if self.compile and self.gan_loss == "wgan_gp":
            raise ValueError("compile = true cannot differentiate twice, as gan_loss = wgan_gp needs; set compile to false")
        if self.teacher.images > 0 and self.teacher.weight == 0:
            raise ValueError("teacher.images > 0 needs teacher.weight above 0")
        if not (self.images or self.epochs or self.teacher.images):
            raise ValueError("images and teacher.images are both 0, so there is nothing to train; raise one")
        return self


class Evaluate(Section):
    """How models are scored."""

    batch_size: PositiveInt
    examples: PositiveInt


class Floors(Section):
    """What a model must reach to become champion at all."""

    cycle_mae: Share
    cycle_ssim: Share
    spread: Share


class Register(Section):
    """When a model becomes champion."""

    promotion: Literal["auto", "manual"]
    floors: Floors


class Params(Section):
    """All of params.yaml."""

    data: Data
    quality: Quality
    split: Split
    preprocess: Preprocess
    model: Model
    train: Train
    evaluate: Evaluate
    register_: Annotated[Register, Field(alias="register")]

    @model_validator(mode="after")
    def _teacher_has_pairs(self) -> "Params":
        if self.train.teacher.images > 0 and self.preprocess.teacher_pairs == 0:
            raise ValueError(
                "train.teacher.images > 0 needs simulated pairs: set preprocess.teacher_pairs above 0, or train.teacher.images to 0"
            )
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


def parse(content: Any, source: str) -> Params:
    """Validate `content` (the parsed YAML). Raises UserError naming the first bad key, its value and what is allowed."""
    if not isinstance(content, dict):
        raise UserError(f"{source}: expected sections such as data: and train:, found {type(content).__name__}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{source}: {key}" if key else source
        if first["type"] == "extra_forbidden":
            raise UserError(f"{where} is not a known key; remove it or mend its spelling") from None
        if first["type"] == "missing":
            raise UserError(f"{where} is missing; see the params.yaml of the project for its meaning and default") from None
        what = first["msg"].removeprefix("Value error, ")
        value = "" if isinstance(first["input"], (dict, BaseModel)) else f" = {first['input']!r}"
        raise UserError(f"{where}{value}: {what[0].lower()}{what[1:]}") from None


def load(path: Path = paths.PARAMS) -> Params:
    """Read and validate `path`. Raises UserError when it is missing, not YAML, or holds an unknown key or impossible value."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run this in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    return parse(content, str(path))
