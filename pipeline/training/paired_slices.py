"""Registered pairs of real slices, as a function of the step alone: each slice beside its truth, the other side on its own pixels."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import MODALITIES, Modality
from pipeline.imaging.intensity import ct_to_unit
from pipeline.models.cyclegan import Pairs
from pipeline.models.fast import generator_on, send
from pipeline.params import Train, Window
from pipeline.training.data import Slices, as_torch, scale_stored, vary, vary_window
from pipeline.training.simulated_pairs import draw_rows, draw_seed

KNOWN = 0.98  # on the networks' scale: pixels that a turn or a crop mixed with unknown ones do not count


class PairedSlices:
    """The registered pairs of one split, whose own sides are lines of `slices`; there may be none."""

    def __init__(self, slices: Slices, split: str, folder: Path = paths.SLICES) -> None:
        index = slice_arrays.load_index(folder)
        paired = index[(index["split"] == split) & (index["pair"] >= 0)].sort_values("pair")
        self.slices = slices
        self.rows: dict[str, list[int]] = {modality: paired.loc[paired["modality"] == modality, "row"].tolist() for modality in MODALITIES}
        kinds = paths.partner_kinds(split) if len(paired) else ()
        # By what the generators see: of CT slices the MR and where it is known, of MR slices the CT and where it is known.
        self.arrays = {source: [slice_arrays.load_array(kind, source.other, folder) for kind in kinds] for source in Modality}
        self.device = torch.device("cpu")
        self._on_device: dict[Modality, list[Tensor]] = {}

    def __len__(self) -> int:
        return len(self.rows["ct"])

    @property
    def display_window(self) -> Window:
        """What people are shown CT in."""
        return self.slices.display_window

    def hold(self, device: torch.device, room: int) -> int:
        """Read on `device` from now on, and keep the pairs there where they take no more than `room` bytes; after `slices.hold`.

        Gives the room that is left.
        """
        self.device = device
        needed = sum(array.size * 4 for arrays in self.arrays.values() for array in arrays)
        if needed > room:
            return room
        self._on_device = {source: [as_torch(array).to(device) for array in arrays] for source, arrays in self.arrays.items()}
        return room - needed

    def pairs(self, step: int, train: Train) -> Pairs:
        """The pairs of `step`: each is seen once before any is seen again. Both sides are flipped, cropped and moved alike."""
        numbers = draw_rows(step, train.batch_size, len(self), (train.seed, 4))
        random = generator_on(self.device, draw_seed(train.seed, 5, step))
        input_ct, ct_rows = self.slices.read("ct", [self.rows["ct"][number] for number in numbers])
        input_mr, mr_rows = self.slices.read("mr", [self.rows["mr"][number] for number in numbers])
        (mr, mr_known), (ct, ct_known) = (self._read(source, numbers) for source in MODALITIES)
        known = self.slices.ct_window[ct_rows]
        if train.teacher.images:
            input_ct, _ = vary_window(input_ct, known, random)
        images = vary((input_ct, mr, mr_known, input_mr, ct, ct_known), train, random)
        input_ct, mr, mr_known, input_mr, ct, ct_known = images
        ct_weight, mr_weight = (ct_known > KNOWN).float(), (mr_known > KNOWN).float()
        contrast, window = self.slices.contrast[mr_rows], 2 * ct_to_unit(known) - 1
        return Pairs(ct, mr, contrast, input_ct, input_mr, ct_weight, mr_weight, window)

    def translations(self, source: Modality, rows: NDArray[np.int_]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Slices of `source` of these pairs, what their translations should be, both (N, H, W) in 0..1, and where that is known."""
        images = self.slices.ct if source is Modality.CT else self.slices.mr
        truth, known = (slice_arrays.to_float(array[rows]) for array in self.arrays[source])
        return slice_arrays.to_float(images[np.array(self.rows[source])[rows]]), truth, known > 0.5

    def contrasts(self, rows: NDArray[np.int_]) -> list[str]:
        """The contrast of the MR of these pairs."""
        return [self.slices.contrast_names[self.rows["mr"][row]] for row in rows]

    def _read(self, source: Modality, numbers: list[int]) -> list[Tensor]:
        """The truth of these pairs of slices of `source`, and where it is known, as the networks see pictures."""
        if self._on_device:
            there = send(torch.tensor(numbers), self.device)
            return [scale_stored(stored[there], slice_arrays.STORED) for stored in self._on_device[source]]
        return [scale_stored(send(as_torch(array[numbers]), self.device), array.dtype) for array in self.arrays[source]]
