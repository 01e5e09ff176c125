"""The one translator behind every door: any readable slice or volume in, its translation in the same geometry out."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import paths
from pipeline.domain import Direction
from pipeline.errors import UserError
from pipeline.formats.slices import LIMITS, Limits, OtherModality
from pipeline.formats.synthetic import Label, Synthetic
from pipeline.formats.table import check_target, read_volume
from pipeline.formats.table import write as write_file
from pipeline.formats.values import CtValues
from pipeline.formats.volume import Volume
from pipeline.imaging.axial import AxialView, cut_across, fill_between, is_fine, plane_step, view_axially
from pipeline.imaging.prepare import find_outlines, prepare_volume
from pipeline.imaging.surroundings import clear_surroundings
from pipeline.models.folder import describe_cure, load_preprocess, read_weights, refuse
from pipeline.serving.slice_translator import Progress, SliceTranslator, Translation

if TYPE_CHECKING:
    from pipeline.tracking.answers import RegisteredModel

THREE_PLANES = 2  # times the work of axial ones, about
FINE = 1.25  # times a network's pixel: voxels of volumes that are translated in three planes


@dataclass(frozen=True)
class Summary:
    """What `Translator.translate` did. Of `slices`, those `without_head` and `below` the teeth are empty."""

    output: Path
    slices: int
    without_head: int
    below: int
    warnings: list[str]


class Translator(SliceTranslator):
    """A generator of a folder, a registry or the box, for files and volumes."""

    @classmethod
    def from_folder(cls, folder: Path, direction: str, label: Label | None = None) -> "Translator":
        """The generator of `direction` in a folder with model.json and safetensors, such as the project's models/.

        Raises UserError when it is not there, or when the weights are not those that model.json names.
        """
        from pipeline.models.runtime import load_onnx

        preprocess = load_preprocess(folder)
        try:
            facts, weights = read_weights(folder, direction)
            conditional = bool(facts["model"]["condition_on_contrast"]) and direction == Direction.CT_TO_MR
            recorded = facts["directions"][direction]["sha256"]
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        except (ValueError, KeyError) as error:
            raise refuse(folder, direction, error) from None
        if digest != recorded:
            raise UserError(f"{weights}: damaged, its digest is not the one in {paths.MODEL_JSON.name}; {describe_cure(folder)}")
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

        Fine volumes are translated in three planes by models that were taught them (`_compare_planes`). Gives the view that was translated
        beside its translation. Raises UserError as `translate_slices`.
        """
        view = view_axially(volume)
        slices = view.volume.slices
        taught = self.preprocess.teacher_pairs > 0 and self.preprocess.teacher_across > 0
        fine = taught and is_fine(view.volume, FINE * self._pixel_size)
        count = THREE_PLANES * len(slices) if fine else len(slices)  # what three planes take is not known before the head is found
        left = count

        def advance(done: int, _: int) -> None:
            nonlocal left
            done = min(done, left)
            left -= done
            if progress:
                progress(done, count)

        translation = self.translate_slices(
            slices, contrast, hounsfield=volume.calibrated, with_uncertainty=with_uncertainty, progress=advance
        )
        if fine:
            translation = self._compare_planes(view.volume, translation, contrast, advance)
            advance(left, count)
        if translation.unit == "hu":
            translation = replace(translation, images=list(clear_surroundings(np.stack(translation.images))))
        return view, translation

    @property
    def _pixel_size(self) -> float:
        """Millimetres of a network's pixel, where files know theirs; 0 for models that frame every head by itself."""
        return (self.preprocess.field_of_view or 0.0) / self.preprocess.pixels

    def _compare_planes(self, volume: Volume, axial: Translation, contrast: str | None, progress: Progress) -> Translation:
        """`axial` with each voxel the median of what axial, coronal and sagittal planes say, in the axial slices that have a head.

        Where a plane shows no head, the axial one speaks for it.
        """
        empty = {*axial.without_head, *axial.below}
        known = [number for number in range(len(axial.images)) if number not in empty]
        answers = [volume.stored(np.stack(axial.images))]
        for across in cut_across(volume, known[0], known[-1]):
            slices = across.slices
            every = max(1, int(self._pixel_size / plane_step(across)))  # planes closer than pixels tell nothing new
            some = slices[::every]
            outlines = find_outlines(some, self.source)
            answer = Translation([], axial.unit, [], [], [])
            self._translate_prepared(some, prepare_volume(some, self.source, self.preprocess, outlines), contrast, False, answer, progress)
            pictures = np.stack(answer.images)
            pictures[[number for number in range(len(some)) if number not in outlines]] = np.nan
            voxels = across.stored(fill_between(pictures, every, len(slices)))
            answers.append(np.where(np.isnan(voxels), answers[0], voxels))
        if len(answers) == 1:
            return axial
        agreed = replace(volume, voxels=np.median(answers, axis=0)).slices
        images = [axial.images[number] if number in empty else slice_.pixels for number, slice_ in enumerate(agreed)]
        return replace(axial, images=images)

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
        written = check_target(volume, path_in, path_out)
        if uncertainty is not None and check_target(volume, path_in, uncertainty) == written:
            raise UserError(f"{uncertainty}: would write over the translation; name another file for the uncertainty")
        view, translation = self.translate_volume(volume, contrast, progress, uncertainty is not None)
        output = self.write(view, translation, path_in, path_out, contrast)
        if uncertainty is not None:
            self.write(view, replace(translation, images=translation.uncertainty, unit="grey"), path_in, uncertainty, contrast)
        count = len(translation.images)
        return Summary(output, count, len(translation.without_head), len(translation.below), [*volume.warnings, *translation.warnings])
