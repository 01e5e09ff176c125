"""The teacher's batches: stored heads drawn as pairs by `render`, as a function of the step alone."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS
from pipeline.errors import UserError
from pipeline.models.cyclegan import Pairs
from pipeline.models.fast import generator_on, send
from pipeline.params import Train
from pipeline.phantom import shares
from pipeline.training.render import Heads, Looks, Rendered, render
from pipeline.training.tissue_values import normal

PLAIN = Looks(strength=0, turn=0, scale=0, shift=0)  # pairs as they are stored, by a scanner without faults
FIXED_SEED = 1  # of the pairs by which training is judged


class SimulatedHeads:
    """Stored heads of one kind: `teacher`, or paths.HELD_OUT. Raises UserError where they are absent or of another size."""

    def __init__(self, kind: str = "teacher", folder: Path = paths.SLICES) -> None:
        self.preprocess = slice_arrays.load_preprocessing(folder)
        self.shares = slice_arrays.load_shares(kind, folder)
        expected = (shares.CHANNELS, *shares.grid_shape(self.preprocess.pixels))
        if self.shares.shape[1:] != expected:
            raise UserError(f"{folder}: {kind} heads are {self.shares.shape[1:]}, expected {expected}; run dvc repro --force preprocess")
        index = slice_arrays.load_teacher_index(folder, kind)
        self.box = torch.from_numpy(index[["down", "right", "side"]].to_numpy(np.float32, copy=True))
        self.device = torch.device("cpu")
        self._on_device: Tensor | None = None

    def __len__(self) -> int:
        return len(self.shares)

    def hold(self, device: torch.device, room: int) -> int:
        """Draw on `device` from now on, and keep the shares there where they take no more than `room` bytes.

        Gives the room that is left.
        """
        self.device, self.box = device, self.box.to(device)
        if self.shares.nbytes > room:
            return room
        self._on_device = torch.from_numpy(np.array(self.shares)).to(device)
        return room - self.shares.nbytes

    def draw(self, rows: list[int], looks: Looks, seed: int) -> Rendered:
        """Pairs of these rows, drawn with `seed` on the device."""
        there = send(torch.tensor(rows), self.device)
        stored = send(torch.from_numpy(self.shares[rows]), self.device) if self._on_device is None else self._on_device[there]
        heads = Heads(stored, self.box[there], shares.grid_spacing(self.preprocess.pixels))
        low, high = self.preprocess.mr_percentiles
        return render(heads, self.preprocess.pixels, looks, (low, high), generator_on(self.device, seed))

    def pairs(self, step: int, train: Train) -> Pairs:
        """The pairs of `step` through the display window; varied where `train.teacher.augment` says so."""
        rows = draw_rows(step, train.batch_size, len(self), (train.seed, 1))
        seed = draw_seed(train.seed, 3, step)
        looks = replace(Looks() if train.teacher.augment else PLAIN, flip=train.flip)
        return self._show(self.draw(rows, self._framed(looks), seed), looks.strength, seed)

    @cached_property
    def held_out(self) -> Pairs:
        """Every head once, as the same pair whenever it is asked for: what training is judged by."""
        return self._show(self.draw(list(range(len(self))), self._framed(Looks(flip=False)), FIXED_SEED), 0.0, FIXED_SEED)

    @property
    def ct(self) -> NDArray[np.uint8]:
        """The held-out CTs as bytes, (N, pixels, pixels)."""
        return _to_bytes(self.held_out.ct)

    @property
    def mr(self) -> NDArray[np.uint8]:
        """The held-out MRs as bytes, (N, pixels, pixels)."""
        return _to_bytes(self.held_out.mr)

    @property
    def contrast_names(self) -> list[str]:
        """The contrasts of the held-out MRs; "" where a look has none."""
        return [CONTRASTS[int(line.argmax())] if line.any() else "" for line in self.held_out.contrast]

    def _framed(self, looks: Looks) -> Looks:
        """Framed by the head, in named contrasts: what networks of one display window see."""
        return replace(looks, by_millimetres=0.0, windowed=0.0, free=0.0, margin=self.preprocess.margin)

    def _show(self, drawn: Rendered, strength: float, seed: int) -> Pairs:
        """CT through the display window of `preprocess`; the generators see it through windows that differ a little, as files do."""
        random = generator_on(self.device, seed + 1)
        window, count = self.preprocess.ct_window, len(drawn.ct)
        level = window.level + strength * 4 * normal((count, 1, 1, 1), random)
        width = window.width * torch.exp(strength * 0.1 * normal((count, 1, 1, 1), random))
        ct = ((drawn.ct - window.level) / window.width + 0.5).clamp(0, 1)
        ct_input = ((drawn.ct_input - level) / width + 0.5).clamp(0, 1)
        return Pairs(ct * 2 - 1, drawn.mr * 2 - 1, drawn.contrast, ct_input * 2 - 1, drawn.mr_input * 2 - 1)


def draw_rows(step: int, count: int, total: int, seed: tuple[int, int]) -> list[int]:
    """Rows of batch `step` in an endless run of shuffled passes over `total` rows."""
    orders: dict[int, np.ndarray] = {}
    rows = []
    for position in range(step * count, (step + 1) * count):
        epoch, place = divmod(position, total)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([*seed, epoch]).permutation(total)
        rows.append(int(orders[epoch][place]))
    return rows


def draw_seed(*numbers: int) -> int:
    """A seed for a generator on the device, of the training's seed, the purpose and the step."""
    return int(np.random.default_rng(numbers).integers(2**63 - 1))


def _to_bytes(pictures: Tensor) -> NDArray[np.uint8]:
    return ((pictures[:, 0].cpu() + 1) * 127.5).round().byte().numpy()
