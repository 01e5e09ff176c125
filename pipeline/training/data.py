"""Batches as a function of the step alone, so that a resumed training sees what an uninterrupted one would have seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline import params, paths
from pipeline.dataset import slice_arrays
from pipeline.errors import UserError
from pipeline.models.cyclegan import Batch, Pairs
from pipeline.models.generator import CONTRASTS
from pipeline.training.augment import crop, jitter, move


def contrasts(names: Sequence[str]) -> Tensor:
    """(N, 4): 1 at the named contrast, all zeros where it is unknown."""
    return torch.tensor([[float(name == known) for known in CONTRASTS] for name in names]).reshape(-1, len(CONTRASTS))


def networks_view(stored: np.ndarray) -> Tensor:
    """Stored integers (N, H, W) to float32 (N, 1, H, W) in [-1, 1]."""
    return torch.from_numpy(slice_arrays.to_float(stored)).unsqueeze(1) * 2 - 1


class Slices:
    """The arrays of one split, or the teacher's, with the contrast of each MR slice."""

    def __init__(self, split: str, folder: Path = paths.SLICES) -> None:
        self.ct, self.mr = (slice_arrays.load_array(split, modality, folder) for modality in paths.MODALITIES)
        if not len(self.ct) or not len(self.mr):
            raise UserError(f"{folder}: split {split} has {len(self.ct)} CT and {len(self.mr)} MR slices; both are needed, bring more data")
        if split in ("teacher", paths.HELD_OUT):
            index = slice_arrays.load_teacher_index(folder, split)
        else:
            index = slice_arrays.load_index(folder)
            index = index[(index["split"] == split) & (index["modality"] == "mr")].sort_values("row")
        self.contrast = contrasts(index["contrast"].tolist())
        self._held: dict[str, Tensor] = {}

    def hold(self, device: torch.device, room: int) -> int:
        """Keep the stored integers on `device` from now on, where they take no more than `room` bytes; gives the room that is left."""
        needed = sum(array.size * (1 if array.dtype == np.uint8 else 4) for array in (self.ct, self.mr))
        if needed > room:
            return room
        for modality, array in (("ct", self.ct), ("mr", self.mr)):
            wide = np.array(array) if array.dtype == np.uint8 else array.astype(np.int32)  # torch knows little of uint16
            self._held[modality] = torch.from_numpy(wide).to(device)
        self._most = np.iinfo(self.ct.dtype).max
        return room - needed

    def _view(self, modality: str, rows: list[int]) -> Tensor:
        """Rows as the networks see them, from the device where they are held there."""
        if not self._held:
            return networks_view(self.ct[rows] if modality == "ct" else self.mr[rows])
        stored = self._held[modality]
        return (stored[torch.tensor(rows, device=stored.device)].float() / self._most).unsqueeze(1) * 2 - 1

    def batch(self, step: int, train: params.Train) -> Batch:
        """The slices of `step`, unpaired: each is seen once before any is seen again."""
        ct_rows = _rows(step, train.batch_size, len(self.ct), (train.seed, 2))
        mr_rows = _rows(step, train.batch_size, len(self.mr), (train.seed, 1))
        ct, mr = self._view("ct", ct_rows), self._view("mr", mr_rows)
        if train.flip:
            flips = torch.from_numpy(np.random.default_rng([train.seed, 3, step]).random((2, train.batch_size)) < 0.5)
            ct, mr = _flip(ct, flips[1]), _flip(mr, flips[0])
        if train.crop or train.affine:
            random = torch.Generator().manual_seed(int(np.random.default_rng([train.seed, 4, step]).integers(2**63)))
            ct, mr = (_varied(images, train, random) for images in (ct, mr))
        return Batch(ct, mr, self.contrast[mr_rows])

    def pairs(self, step: int, train: params.Train) -> Pairs:
        """The simulated pairs of `step`, the same rows of both arrays; varied where `train.teacher.augment` says so."""
        rows = _rows(step, train.batch_size, len(self.mr), (train.seed, 1))
        ct, mr = self._view("ct", rows), self._view("mr", rows)
        seeds = np.random.default_rng([train.seed, 3, step])
        if train.flip:
            flips = torch.from_numpy(seeds.random(train.batch_size) < 0.5)
            ct, mr = _flip(ct, flips), _flip(mr, flips)
        if not train.teacher.augment:
            return Pairs(ct, mr, self.contrast[rows], ct, mr)
        random = torch.Generator().manual_seed(int(seeds.integers(2**63)))
        ct, mr = move((ct, mr), random)
        return Pairs(ct, mr, self.contrast[rows], jitter(ct, random), jitter(mr, random))


def _rows(step: int, count: int, total: int, seed: tuple[int, int]) -> list[int]:
    """Rows of batch `step` in an endless run of shuffled passes over `total` rows."""
    orders: dict[int, np.ndarray] = {}
    rows = []
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, total)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([*seed, epoch]).permutation(total)
        rows.append(int(orders[epoch][place]))
    return rows


def _flip(images: Tensor, which: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None].to(images.device), images.flip(-1), images)


def _varied(images: Tensor, train: params.Train, random: torch.Generator) -> Tensor:
    if train.crop:
        images = crop(images, train.crop, random)
    return move((images,), random)[0] if train.affine else images
