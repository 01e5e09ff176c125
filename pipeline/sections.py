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
        if self.source == "url" and not (self.url and self.url.partition("://")[2].strip("/")):
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
    pairs: Literal["test", "grouped"] = "test"
    """test (pairs are for scoring only) | grouped (their patients go to train, val and test like all others, and training sees them)"""
    seed: Count = 0
    """which groups go where"""

    @property
    def pairs_in(self) -> tuple[str, ...]:
        """The splits whose registered pairs count as such; elsewhere CT and MR of a patient are unpaired."""
        return ("train", "val", "test") if self.pairs == "grouped" else ("test",)

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
    teacher_across: Share = 0.0
    """share of them that are coronal or sagittal; above 0, fine volumes are translated in three planes"""

    @model_validator(mode="after")
    def _rising(self) -> "Preprocess":
        if self.mr_percentiles[0] >= self.mr_percentiles[1]:
            raise ValueError(f"mr_percentiles = {self.mr_percentiles} must rise")
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
