"""The sections of params.yaml: every knob with its type, range, default and meaning. params.yaml has the same defaults and meanings."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """What all sections share: frozen, strict about types, no unknown keys, a docstring under each field."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, content: Any) -> Any:
        """Take 1e5, which YAML reads as a float, where a whole number is meant."""
        if not isinstance(content, dict):
            return content
        return {key: int(value) if isinstance(value, float) and value.is_integer() else value for key, value in content.items()}


class Kaggle(Section):
    """A data set of Kaggle."""

    handle: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] = "darren2020/ct-to-mri-cgan"
    """owner/dataset"""
    version: Positive = 1
    """pinned, so that the same params give the same bytes"""


class Phantom(Section):
    """Simulated heads."""

    subjects: Positive = 40
    """training heads of each modality; a head gives CT or MR, never both"""
    test_subjects: Positive = 12
    """test heads; each gives CT and MR, so that translation can be scored against truth"""
    slices: Positive = 4
    """slices of each head"""
    pixels: Annotated[int, Field(ge=64, le=1024)] = 256
    """side of each slice"""
    seed: Count = 1
    """same seed, same heads"""


class Data(Section):
    """download: where slices come from."""

    source: Literal["phantom", "kaggle", "folder", "url"] = "phantom"
    """phantom (simulated here, no download) | kaggle | folder | url"""
    mr_contrast: Literal["any", "t1", "t2", "flair", "pd"] = "any"
    """any | t1 | t2 | flair | pd: use only MR slices of this contrast, as files say it or as it is estimated"""
    patient: str = "auto"
    """whose head a file shows: auto (by folders and names) | none | a regular expression on its name or path, the patient in parentheses"""
    kaggle: Kaggle = Kaggle()
    folder: str | None = None
    """for source folder: a directory or archive in the Kaggle layout, or with ct/ and mr/; pairs.csv is optional"""
    url: str | None = None
    """for source url: s3://, gs:// or https:// address of a folder or archive as above; credentials from the environment"""
    phantom: Phantom = Phantom()

    @field_validator("patient")
    @classmethod
    def _one_group(cls, patient: str) -> str:
        if patient in ("auto", "none"):
            return patient
        try:
            groups = re.compile(patient).groups
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from None
        if groups != 1:
            raise ValueError("needs one group in parentheses, the patient; or auto, or none")
        return patient

    @model_validator(mode="after")
    def _folder_named(self) -> "Data":
        if self.source == "folder" and not self.folder:
            raise ValueError("source is folder, so data.folder must name a directory or archive")
        if self.source == "url" and not (self.url and "://" in self.url):
            raise ValueError("source is url, so data.url must be an address such as s3://bucket/folder")
        if self.url and "@" in self.url.partition("://")[2].partition("/")[0]:
            raise ValueError("data.url holds credentials, which belong in the environment or the storage's own file, not in params.yaml")
        return self


class Quality(Section):
    """validate: which images are fit for use."""

    min_side: Positive = 64
    """pixels; quarantine smaller images (thumbnails)"""
    max_aspect: Annotated[float, Field(ge=1)] = 1.8
    """longer side / shorter side; quarantine longer images"""
    min_contrast: Share = 0.05
    """standard deviation of intensities in 0..1; quarantine flatter images (blank)"""
    max_border: Share = 0.5
    """mean brightness of the edges in 0..1; quarantine brighter images (white background)"""
    max_colour: Share = 0.01
    """share of coloured pixels; quarantine above (overlays, web pages, photographs)"""
    max_saturated: Share = 0.5
    """share of white pixels in an MR head; quarantine above (in CT, bone is white anyway)"""
    wrong_modality: Annotated[float, Field(ge=0.5, le=1)] = 0.9
    """quarantine above this predicted probability of being the other modality; 1 disables"""
    warn_marks: Positive = 3
    """warn from this number of letters or ruler ticks outside an MR head"""
    max_quarantined: Share = 0.25
    """share of a modality's images; the stage fails above"""
    drift_reference: str | None = None
    """statistics.json of the reference model's training data, to compare new data with; null: no comparison"""


class Split(Section):
    """split: train, val and test, by groups of slices that belong together."""

    val: Share = 0.1
    """share of groups for validation"""
    test: Share = 0.15
    """share of groups for testing, where the source's own test folder is not used"""
    near_duplicate_bits: Annotated[int, Field(ge=0, le=64)] = 26
    """slices whose perceptual hashes (256 bits) differ in at most so many bits stay in one split"""
    neighbour_block: Count = 0
    """n: slices whose numbers in file names lie in the same block of n stay in one split; 0 disables"""
    keep_source_test: bool = True
    """use the source's own test folder, except where a duplicate contradicts it"""
    seed: Count = 0
    """which groups go where"""

    @model_validator(mode="after")
    def _something_left(self) -> "Split":
        if self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g} leaves nothing to train on; their sum must be below 1")
        return self


class Window(Section):
    """Display window in Hounsfield units."""

    level: float = 40.0
    """HU in the middle of the window"""
    width: Annotated[float, Field(gt=0)] = 80.0
    """HU from black to white"""


class Preprocess(Section):
    """preprocess: from source pixels to network pixels."""

    pixels: Annotated[int, Field(ge=32, le=1024, multiple_of=4)] = 64
    """side of the square slices that the networks see"""
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """free border around the head, as a share of its longer side"""
    field_of_view: Annotated[float, Field(gt=0)] | None = 256.0
    """side of the frame in mm, where a file knows its pixel size; null: the head with its margin, as for pictures without pixel size"""
    upright: bool = False
    """rotate tilted heads upright"""
    ct_window: Window = Window()
    mr_percentiles: Annotated[list[Annotated[float, Field(ge=0, le=100)]], Field(min_length=2, max_length=2)] = [1.0, 99.5]
    """percentiles of the intensities inside the head that become 0 and 1"""
    teacher_pairs: Count = 400
    """simulated CT/MR pairs with known truth, for supervised training; 0: plain CycleGAN"""

    @model_validator(mode="after")
    def _rising(self) -> "Preprocess":
        if self.mr_percentiles[0] >= self.mr_percentiles[1]:
            raise ValueError(f"mr_percentiles = {self.mr_percentiles} must rise")
        return self


class Model(Section):
    """Architecture of generators and discriminators."""

    generator: Literal["resnet_6", "resnet_9", "unet_128", "unet_256"] = "resnet_6"
    """resnet_6 | resnet_9 | unet_128 | unet_256: a U-Net needs preprocess.pixels in multiples of its number"""
    generator_width: Positive = 16
    """feature maps of the first layer"""
    upsampling: Literal["transpose", "resize"] = "transpose"
    """transpose (as in the paper) | resize (slower, no checkerboards)"""
    norm: Literal["instance", "batch", "none"] = "instance"
    """instance | batch (slower; the images of a batch influence each other) | none"""
    initialisation: Literal["normal", "xavier", "kaiming", "orthogonal"] = "normal"
    """normal (as in the paper) | xavier | kaiming | orthogonal: distribution of the first weights"""
    discriminator: Literal["patch", "pixel"] = "patch"
    """patch | pixel (judges brightness, not shape)"""
    discriminator_layers: Annotated[int, Field(ge=1, le=6)] = 3
    """strided layers of the PatchGAN"""
    discriminator_width: Positive = 16
    """feature maps of its first layer"""
    condition_on_contrast: bool = True
    """tell the CT→MR networks which MR contrast is wanted"""


class Teacher(Section):
    """Supervision by simulated pairs."""

    images: Count = 3200
    """simulated pairs seen in the warm-up, before the first unpaired slice"""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    """in the warm-up; it falls to train.learning_rate, or to zero where no unpaired phase follows"""
    weight: Weight = 10.0
    """weight of the L1 loss on simulated pairs, in the warm-up and after it"""
    augment: bool = True
    """rotate, scale and shift pairs; vary the brightness curve and the noise of the generators' inputs"""


class Train(Section):
    """train: how long and how training goes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto | cpu | cuda"""
    devices: Positive = 1
    """GPUs, or processes on the CPU, that share each batch"""
    threads: Positive | None = 2
    """CPU threads of each process; another number gives slightly other weights; null: one for each core"""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """auto | float32 | tf32 (GPU) | bfloat16; auto: bfloat16 where the GPU has it, or the CPU has it and networks are wide"""
    deterministic: bool | None = None
    """same bytes again on the same machine, at some cost on a GPU; null: yes on the CPU, no on a GPU"""
    compile: bool = False
    """torch.compile: minutes at the start, then faster steps; needs a C++ compiler"""
    start_from: str | None = None
    """folder with model.json and weights to start from; null: random weights"""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """first weights, order of slices, augmentation; below 4294967296"""
    images: Count = 800
    """budget: unpaired training images of each modality seen"""
    epochs: Positive | None = None
    """budget in passes over the larger modality, instead of train.images; null: train.images counts"""
    batch_size: Positive = 4
    """slices of each modality in a step"""
    learning_rate: Annotated[float, Field(gt=0)] = 0.0002
    """of Adam, for generators and discriminators"""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """decay of Adam's mean gradient"""
    schedule: Literal["linear", "step", "cosine", "plateau"] = "linear"
    """linear | cosine (both fall to zero) | step | plateau: learning rate of the unpaired phase"""
    decay_from: Share = 0.5
    """share of the budget after which the learning rate falls"""
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """schedules step (at decay_from, and halfway from there to the end) and plateau: factor of each fall"""
    patience: Positive = 5
    """schedule plateau: validations without improvement before a fall"""
    clip_gradients: Weight = 0.0
    """largest norm of a step's gradients; larger ones are scaled down; 0 disables"""
    gan_loss: Literal["lsgan", "vanilla", "wgan_gp", "hinge"] = "lsgan"
    """lsgan | vanilla | wgan_gp | hinge"""
    lambda_cycle: Weight = 3.0
    """weight of the cycle loss"""
    lambda_identity: Weight = 0.0
    """weight of the identity loss, relative to lambda_cycle"""
    lambda_adversarial: Weight = 0.3
    """weight of the GAN loss"""
    pool_size: Count = 50
    """earlier translations that are shown to the discriminators again"""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """decay of the moving average of the generators' weights, which becomes the model; 0 disables"""
    flip: bool = True
    """flip left and right at random"""
    crop: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """unpaired slices: crop at random, leaving out up to this share of a side"""
    affine: bool = False
    """unpaired slices: rotate, scale and shift a little at random"""
    teacher: Teacher = Teacher()
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 120.0
    """seconds between checkpoints; an interrupted training loses at most so much"""
    sample_images: Positive = 1000
    """validate and draw sample translations every so many images"""
    keep_best: bool = False
    """true: the weights of the best validation become the model; false: the last ones"""
    stop_after: Count = 0
    """end after so many validations without improvement; 0 disables"""

    @model_validator(mode="after")
    def _possible(self) -> "Train":
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size = {self.batch_size} cannot be shared by devices = {self.devices}; make it a multiple")
        if self.precision == "tf32" and self.device == "cpu":
            raise ValueError("precision = tf32 needs a GPU; set it to float32 for device = cpu")
        if self.compile and self.gan_loss == "wgan_gp":
            raise ValueError("compile = true cannot differentiate twice, as gan_loss = wgan_gp needs; set compile to false")
        if self.teacher.images > 0 and self.teacher.weight == 0:
            raise ValueError("teacher.images > 0 needs teacher.weight above 0")
        if not (self.images or self.epochs or self.teacher.images):
            raise ValueError("images and teacher.images are both 0, so there is nothing to train; raise one")
        return self


class Evaluate(Section):
    """evaluate: how models are scored."""

    batch_size: Positive = 16
    """slices translated at a time"""
    examples: Positive = 6
    """slices of each direction in the report: the best, the median, and the worst"""


class Floors(Section):
    """What a champion must reach, whatever it is compared with."""

    cycle_mae: Share = 0.15
    """without truth: mean absolute error after there and back at most this, in 0..1"""
    cycle_ssim: Share = 0.4
    """without truth: SSIM after there and back at least this (an MR loses what CT does not show)"""
    spread: Share = 0.3
    """translations differ from each other at least this much, relative to real slices (else: collapse)"""


class Register(Section):
    """register: when a model becomes champion."""

    promotion: Literal["auto", "manual"] = "auto"
    """auto (a model that passes the gate becomes champion) | manual (only ctmr promote does it)"""
    margin: Share = 0.005
    """the error, in 0..1, exceeds the champion's and the best champion's so far by less than this"""
    floors: Floors = Floors()
