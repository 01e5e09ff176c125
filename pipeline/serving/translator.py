"""The one translator behind every door: any readable slice or volume in, its translation in the same geometry out."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.domain import CONTRASTS, Direction, Modality
from pipeline.errors import UserError
from pipeline.formats.slices import LIMITS, Limits, OtherModality, Slice
from pipeline.formats.synthetic import Label, Synthetic
from pipeline.formats.table import check_target, read_volume
from pipeline.formats.table import write as write_file
from pipeline.formats.values import CtValues
from pipeline.formats.volume import Volume
from pipeline.imaging import head, intensity
from pipeline.imaging.axial import AxialView, view_axially
from pipeline.imaging.integrity import SENTENCES, examine
from pipeline.imaging.prepare import NoHead, Prepared, find_outlines, prepare_volume
from pipeline.imaging.surroundings import AIR, clear_surroundings
from pipeline.models.uncertainty import estimate_uncertainty
from pipeline.params import Preprocess

if TYPE_CHECKING:
    from pipeline.tracking.answers import RegisteredModel

Images = NDArray[np.float32]
Progress = Callable[[int, int], None]  # called with the number of slices finished since the last call, and of all

BATCH = 8


class Generator(Protocol):
    """What turns pictures of one modality into those of the other."""

    def translate(self, images: Images, contrast: str | None) -> Images:
        """Pictures (N, H, W) in 0..1 for pictures of the same shape and range."""
        ...


@dataclass(frozen=True)
class Translation:
    """images: one (H, W) float32 for each slice, in its geometry: Hounsfield units (unit "hu") or grey values in 0..1 (unit "grey").

    `without_head`: slices in which no head was found, `below`: those below the teeth, where models were taught nothing; both are empty.
    `warnings`: what a person should know before believing the result.
    `uncertainty`, where asked for: one (H, W) float32 for each slice, 0..1 (`pipeline.models.uncertainty.estimate_uncertainty`).
    """

    images: list[Images]
    unit: Literal["hu", "grey"]
    without_head: list[int]
    below: list[int]
    warnings: list[str]
    uncertainty: list[Images] = field(default_factory=list)


@dataclass(frozen=True)
class Summary:
    """What `Translator.translate` did. Of `slices`, those `without_head` and `below` the teeth are empty."""

    output: Path
    slices: int
    without_head: int
    below: int
    warnings: list[str]


class Translator:
    """A generator with all that belongs to it: how a slice becomes its input and how its output becomes a slice again."""

    def __init__(self, generator: Generator, direction: str, preprocess: Preprocess, *, conditional: bool, label: Label) -> None:
        self.generator = generator
        self.direction = Direction(direction)
        self.source, self.target = self.direction.source, self.direction.target
        self.preprocess = preprocess
        self.conditional = conditional
        self.label = label

    @property
    def known_range(self) -> tuple[float, float]:
        """Hounsfield units that the model was taught: all of the scale by simulated heads, else those of the pictures' window."""
        if self.preprocess.teacher_pairs:
            return intensity.CT_LOWEST, intensity.CT_HIGHEST
        return intensity.window_bounds(self.preprocess.ct_window)

    @classmethod
    def from_folder(cls, folder: Path, direction: str, label: Label | None = None) -> "Translator":
        """The generator of `direction` in a folder with model.json and safetensors, such as the project's models/.

        Raises UserError when it is not there, or when the weights are not those that model.json names.
        """
        from pipeline.models.runtime import load_onnx

        file = folder / paths.MODEL_JSON.name
        try:
            facts = json.loads(file.read_text(encoding="utf-8"))
            entry = facts["directions"][direction]
            preprocess = Preprocess.model_validate(facts["preprocess"])
            conditional = bool(facts["model"]["condition_on_contrast"]) and direction == Direction.CT_TO_MR
            weights, recorded = folder / entry["weights"], entry["sha256"]
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: not found; run dvc repro, or name a model of the registry") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: not a model of this project for {direction} ({error})") from None
        if digest != recorded:
            raise UserError(f"{weights}: damaged, its digest is not the one in {file.name}; restore it with dvc checkout {paths.MODELS}")
        label = label or Label(Direction(direction).model_name, digest=digest)
        return cls(load_onnx(folder, direction), direction, preprocess, conditional=conditional, label=label)

    @classmethod
    def from_registry(cls, model: str) -> "Translator":
        """A registered model, as `mr-to-ct@champion` or `mr-to-ct/3`. Raises UserError when the registry has none of this name."""
        from pipeline.tracking.registry import fetch

        return cls.from_version(fetch(model))

    @classmethod
    def from_box(cls, direction: str) -> "Translator":
        """The model in the box. Raises UserError where this copy of the package has none."""
        if not paths.has_box():
            raise UserError(f"{paths.BOX}: this copy of ctmr has no model in the box; train one: python -m pipeline.training.box")
        translator = cls.from_folder(paths.BOX, direction)
        translator.label = replace(translator.label, in_the_box=True)
        return translator

    @classmethod
    def from_version(cls, found: "RegisteredModel") -> "Translator":
        """The model of a version that the registry has."""
        label = Label(found.name, version=found.version, digest=found.digest, scores=dict(found.scores))
        return cls.from_folder(found.folder, Direction.from_model_name(found.name), label)

    def translate_slices(
        self,
        slices: Sequence[Slice],
        contrast: str | None = None,
        *,
        hounsfield: bool = False,
        with_uncertainty: bool = False,
        progress: Progress | None = None,
    ) -> Translation:
        """Translate the slices of one volume, of any size. `contrast` (t1, t2, flair, pd) is the MR contrast wanted from CT.

        CT comes in Hounsfield units where `hounsfield` is set, else, as MR does, as grey values in 0..1. Uncertainty takes eight times as
        long. Raises UserError for an unknown contrast and where no slice shows a head.
        """
        self._check_contrast(contrast)
        outlines = find_outlines(slices, self.source)
        if not outlines:
            where = "the picture" if len(slices) == 1 else f"any of {len(slices)} slices"
            raise NoHead(f"no head found in {where}; expected axial {self.source.upper()} slices of a head")
        findings = examine(slices, outlines, self.source)
        without_head = [number for number in range(len(slices)) if number not in outlines]
        below = [number for number in findings.below if number in outlines]
        known = {number: outline for number, outline in outlines.items() if number not in below}
        inputs = prepare_volume(slices, self.source, self.preprocess, known)
        unit: Literal["hu", "grey"] = "hu" if self.target is Modality.CT and hounsfield else "grey"
        warnings = [*(SENTENCES[fault] for fault in findings.faults), *self._warnings(slices, without_head, below)]
        translation = Translation([], unit, without_head, below, warnings)
        for first in range(0, len(slices), BATCH):
            batch = slices[first : first + BATCH]
            self._translate_batch(batch, inputs[first : first + BATCH], contrast, with_uncertainty, translation)
            if progress:
                progress(len(batch), len(slices))
        return translation

    def _translate_batch(
        self,
        batch: Sequence[Slice],
        inputs: Sequence[Prepared | None],
        contrast: str | None,
        with_uncertainty: bool,
        translation: Translation,
    ) -> None:
        """Add the translations of `batch` to `translation`."""
        arrays = [prepared.array for prepared in inputs if prepared is not None]
        work = partial(self.generator.translate, contrast=contrast)
        predictions = work(np.stack(arrays)) if arrays else np.empty((0, 1, 1), np.float32)
        spreads = estimate_uncertainty(work, np.stack(arrays), predictions) if arrays and with_uncertainty else None
        place = 0
        for slice_, prepared in zip(batch, inputs, strict=True):
            shape = (slice_.pixels.shape[0], slice_.pixels.shape[1])
            image = np.full(shape, AIR if translation.unit == "hu" else 0, np.float32)
            uncertainty = np.zeros(shape, np.float32)
            if prepared is not None:
                inside = head.paste(prepared.mask.astype(np.float32), prepared.box, shape, prepared.scale) > 0.5
                pasted = head.paste(predictions[place], prepared.box, shape, prepared.scale)
                image = np.where(inside, self._from_network(pasted, translation.unit), image)
                if spreads is not None:
                    uncertainty = np.where(inside, head.paste(spreads[place], prepared.box, shape, prepared.scale), uncertainty)
                place += 1
            translation.images.append(image)
            if with_uncertainty:
                translation.uncertainty.append(uncertainty)

    def _from_network(self, image01: Images, unit: str) -> Images:
        """A network's picture as it is written: CT in Hounsfield units or in the display window, MR in 0..1."""
        if unit == "hu":
            return intensity.unit_to_ct(image01)
        return intensity.display(image01, self.target, self.preprocess.ct_window)

    def read(self, path: Path, ct_values: CtValues = "auto", limits: Limits = LIMITS) -> Volume:
        """What is to be translated: the one reader of command, page and pyfunc.

        Raises UserError as `read_volume`, and OtherModality for what already is what this model makes.
        """
        volume = read_volume(path, self.source, ct_values, limits)
        if volume.modality == self.target:
            raise OtherModality(
                f"{path}: {self.target.upper()} by its header or its values; this model translates {self.source.upper()},"
                f" another makes {self.source.upper()} of it (--to {self.source})"
            )
        return volume

    def translate_volume(
        self, volume: Volume, contrast: str | None = None, progress: Progress | None = None, with_uncertainty: bool = False
    ) -> tuple[AxialView, Translation]:
        """Translate all slices of a volume, seen axially; CT is in Hounsfield units where the volume is calibrated.

        Gives the view that was translated beside its translation. Raises UserError as `translate_slices`.
        """
        view = view_axially(volume)
        translation = self.translate_slices(
            view.volume.slices, contrast, hounsfield=volume.calibrated, with_uncertainty=with_uncertainty, progress=progress
        )
        if translation.unit == "hu":
            translation = replace(translation, images=list(clear_surroundings(np.stack(translation.images))))
        return view, translation

    def write(self, view: AxialView, translation: Translation, path_in: Path, path_out: Path, contrast: str | None = None) -> Path:
        """Write the translation of a volume, which was read from `path_in`, on its own voxels and in its format; gives the path written."""
        window = self.preprocess.ct_window
        voxels = view.restore(np.stack(translation.images), translation.unit == "hu")
        synthetic = Synthetic(voxels, translation.unit, self.label, contrast or "", (window.level, window.width))
        return write_file(view.source, synthetic, path_in, path_out)

    def translate(
        self,
        path_in: Path,
        path_out: Path,
        contrast: str | None = None,
        progress: Progress | None = None,
        uncertainty: Path | None = None,
        ct_values: CtValues = "auto",
    ) -> Summary:
        """Translate a picture, a DICOM file or series (folder) or another volume and write the result, in its format, to `path_out`.

        `ct_values`: what the numbers of a CT are, where they do not tell. `uncertainty`: where to write the uncertainty, 0..1, as a
        picture or NIfTI volume. Raises UserError for what cannot be read or shows no head, and for an uncertainty asked for with DICOM,
        which has no place for it.
        """
        volume = self.read(path_in, ct_values)
        if uncertainty is not None and volume.format == "DICOM":
            raise UserError(f"{path_in}: uncertainty is written for pictures and NIfTI; for DICOM look at it with ctmr serve")
        for path in (path_out, uncertainty) if uncertainty else (path_out,):
            check_target(volume, path_in, path)
        view, translation = self.translate_volume(volume, contrast, progress, uncertainty is not None)
        output = self.write(view, translation, path_in, path_out, contrast)
        if uncertainty is not None:
            self.write(view, replace(translation, images=translation.uncertainty, unit="grey"), path_in, uncertainty, contrast)
        count = len(translation.images)
        return Summary(output, count, len(translation.without_head), len(translation.below), [*volume.warnings, *translation.warnings])

    def _check_contrast(self, contrast: str | None) -> None:
        if contrast is not None and contrast not in CONTRASTS:
            raise UserError(f"contrast {contrast}: unknown; choose one of {', '.join(CONTRASTS)}")
        if contrast is not None and self.target is Modality.CT:
            raise UserError(f"contrast {contrast}: a CT has no MR contrast; leave it out, or translate to mr")

    def _warnings(self, slices: Sequence[Slice], without_head: list[int], below: list[int]) -> list[str]:
        warnings = []
        other = sum(slice_.modality == self.target for slice_ in slices)
        if other:
            warnings.append(
                f"{other} of {len(slices)} slices are {self.target.upper()} by their header; this model translates {self.source.upper()}"
            )
        if without_head:
            warnings.append(f"no head found in {len(without_head)} of {len(slices)} slices, which are left empty")
        if below:
            count = f"{len(below)} of {len(slices)}"
            warnings.append(f"{count} slices lie below the teeth, where models were taught nothing, and are left empty")
        return warnings
