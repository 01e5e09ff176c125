"""A generator with all that belongs to it: how a slice becomes its input and how its output becomes a slice again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import CONTRASTS, Direction, Modality
from pipeline.errors import UserError
from pipeline.formats.histogram import is_flat
from pipeline.formats.slices import Slice
from pipeline.formats.synthetic import Label
from pipeline.imaging import appearance, head, intensity
from pipeline.imaging.integrity import SENTENCES, doubt_size, examine
from pipeline.imaging.outline import Outline
from pipeline.imaging.prepare import NoHead, Prepared, find_outlines, prepare_volume
from pipeline.imaging.surroundings import AIR
from pipeline.models.uncertainty import estimate_uncertainty
from pipeline.params import Preprocess, Quality

Images = NDArray[np.float32]
Progress = Callable[[int, int], None]  # called with the number of slices finished since the last call, and of all

BATCH = 8
LOOKED_AT = 8  # slices of a volume whose looks are judged
FIT = Quality()  # what is fit for training: there the rules are knobs, here they are as committed


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


class SliceTranslator:
    """Translates the slices of one volume by one generator."""

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
        if impossible := doubt_size(slices, outlines):
            raise UserError(impossible)
        doubts = self._look_at_pictures(slices, outlines)
        findings = examine(slices, outlines, self.source)
        without_head = [number for number in range(len(slices)) if number not in outlines]
        below = [number for number in findings.below if number in outlines]
        known = {number: outline for number, outline in outlines.items() if number not in below}
        inputs = prepare_volume(slices, self.source, self.preprocess, known)
        unit: Literal["hu", "grey"] = "hu" if self.target is Modality.CT and hounsfield else "grey"
        warnings = [*doubts, *(SENTENCES[fault] for fault in findings.faults), *self._warnings(slices, without_head, below)]
        translation = Translation([], unit, without_head, below, warnings)
        self._translate_prepared(slices, inputs, contrast, with_uncertainty, translation, progress)
        return translation

    def _look_at_pictures(self, slices: Sequence[Slice], outlines: Mapping[int, Outline]) -> list[str]:
        """What is to be said of pictures, by the rules that keep such from training. Raises UserError for inverted ones."""
        looked_at = sorted(outlines)[:: max(1, len(outlines) // LOOKED_AT)]
        edges, likelihoods, flat = [], [], []
        for slice_, outline in ((slices[number], outlines[number]) for number in looked_at):
            picture = intensity.view(slice_.pixels, slice_.unit, self.source)
            edges.append(appearance.edge_brightness(picture))
            flat.append(self.source is Modality.CT and slice_.unit == "grey" and is_flat(slice_.pixels))
            if not slice_.modality and slice_.unit != "hu":
                described = appearance.describe(picture, Outline(outline.points / slice_.scale), self.source)
                likelihoods.append(appearance.ct_likelihood(described))
        if np.median(edges) > FIT.max_border:
            raise UserError("bright all along its edges: black and white exchanged, or cut within the head; expected a head before black")
        doubts = []
        coloured = sum(slice_.colour > FIT.max_colour for slice_ in slices)
        if coloured:
            doubts.append(f"{coloured} of {len(slices)} slices are coloured (drawings, a colour map); there the result is wrong")
        if np.mean(flat) > 0.5:
            doubts.append("brain and fluid are of one grey, as in a window of bone, so the result means little; take one of 0 to 80 HU")
        ct = float(np.median(likelihoods)) if likelihoods else 0.5
        if (ct if self.source is Modality.MR else 1 - ct) > FIT.wrong_modality:
            doubts.append(f"looks like {self.target.upper()} rather than {self.source.upper()}; if it is, the result means nothing")
        return doubts

    def _translate_prepared(
        self,
        slices: Sequence[Slice],
        inputs: Sequence[Prepared | None],
        contrast: str | None,
        with_uncertainty: bool,
        translation: Translation,
        progress: Progress | None,
    ) -> None:
        """Add the translations of all `slices` to `translation`, batch by batch."""
        work = partial(self.generator.translate, contrast=contrast)
        for first in range(0, len(slices), BATCH):
            batch = list(zip(slices, inputs, strict=True))[first : first + BATCH]
            arrays = [prepared.array for _, prepared in batch if prepared is not None]
            predictions = work(np.stack(arrays)) if arrays else np.empty((0, 1, 1), np.float32)
            spreads = estimate_uncertainty(work, np.stack(arrays), predictions) if arrays and with_uncertainty else None
            place = 0
            for slice_, prepared in batch:
                shape = slice_.pixels.shape[0], slice_.pixels.shape[1]
                image = np.full(shape, AIR if translation.unit == "hu" else 0, np.float32)
                uncertainty = np.zeros(shape, np.float32)
                if prepared is not None:
                    paste = partial(head.paste, box=prepared.box, shape=shape, scale=prepared.scale)
                    inside = paste(prepared.mask.astype(np.float32)) > 0.5
                    image = np.where(inside, self._from_network(paste(predictions[place]), translation.unit), image)
                    if spreads is not None:
                        uncertainty = np.where(inside, paste(spreads[place]), uncertainty)
                    place += 1
                translation.images.append(image)
                if with_uncertainty:
                    translation.uncertainty.append(uncertainty)
            if progress:
                progress(len(batch), len(slices))

    def _from_network(self, image01: Images, unit: str) -> Images:
        """A network's picture as it is written: CT in Hounsfield units or in the display window, MR in 0..1."""
        if unit == "hu":
            return intensity.unit_to_ct(image01)
        return intensity.display(image01, self.target, self.preprocess.ct_window)

    def _check_contrast(self, contrast: str | None) -> None:
        """Raises UserError for a contrast that nobody knows, and for one asked of a CT."""
        if contrast is not None and contrast not in CONTRASTS:
            raise UserError(f"contrast {contrast}: unknown; choose one of {', '.join(CONTRASTS)}")
        if contrast is not None and self.target is Modality.CT:
            raise UserError(f"contrast {contrast}: a CT has no MR contrast; leave it out, or translate to mr")

    def _warnings(self, slices: Sequence[Slice], without_head: list[int], below: list[int]) -> list[str]:
        """Sentences on slices of the other modality and on those that are left empty, by their numbers."""
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
