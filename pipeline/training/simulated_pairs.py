"""The teacher's batches: stored heads drawn as pairs by `render`, as a function of the step alone."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import paths
from pipeline.dataset import slice_arrays
from pipeline.domain import CONTRASTS
from pipeline.errors import UserError
from pipeline.imaging.intensity import ct_to_unit
from pipeline.models.cyclegan import Pairs
from pipeline.models.fast import generator_on, send
from pipeline.params import Train, Window
from pipeline.phantom import shares
from pipeline.training.render import Heads, Looks, Rendered, render

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

    @property
    def display_window(self) -> Window:
        """What people are shown CT in."""
        return self.preprocess.ct_window

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
        """The pairs of `step`; varied where `train.teacher.augment` says so."""
        rows = draw_rows(step, train.batch_size, len(self), (train.seed, 1))
        teacher = train.teacher
        knobs = {"bone": teacher.bone, "free": teacher.free, "windowed": teacher.pictures, "by_millimetres": 1 - teacher.pictures}
        looks = replace(Looks() if teacher.augment else PLAIN, flip=train.flip, **{**knobs, **self._frame()})
        return on_networks_scale(self.draw(rows, looks, draw_seed(train.seed, 3, step)))

    @cached_property
    def held_out(self) -> Pairs:
        """Every head once, in a named contrast, the same pair whenever it is asked for: what training is judged by."""
        looks = Looks(flip=False, windowed=0.0, free=0.0, **self._frame())
        return on_networks_scale(self.draw(list(range(len(self))), looks, FIXED_SEED))

    @property
    def ct(self) -> NDArray[np.uint16]:
        """The held-out CTs as they would be stored, (N, pixels, pixels)."""
        return _as_stored(self.held_out.ct)

    @property
    def mr(self) -> NDArray[np.uint16]:
        """The held-out MRs as they would be stored, (N, pixels, pixels)."""
        return _as_stored(self.held_out.mr)

    @property
    def contrast_names(self) -> list[str]:
        """The contrasts of the held-out MRs; "" where a look has none."""
        return [CONTRASTS[int(line.argmax())] if line.any() else "" for line in self.held_out.contrast]

    def _frame(self) -> dict[str, Any]:
        """Pairs are framed as `preprocess` frames slices, with millimetres and without."""
        side = self.preprocess.field_of_view
        return {"margin": self.preprocess.margin, **({"by_millimetres": 0.0} if side is None else {"field_of_view": side})}


def on_networks_scale(drawn: Rendered) -> Pairs:
    """Drawn pairs as the networks see them, in [-1, 1]; CT on the scale of `intensity.ct_to_unit`."""
    ct, input_ct = (2 * ct_to_unit(hu) - 1 for hu in (drawn.ct, drawn.ct_input))
    return Pairs(ct, 2 * drawn.mr - 1, drawn.contrast, input_ct, 2 * drawn.mr_input - 1, drawn.ct_weight, drawn.mr_weight)


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


def _as_stored(pictures: Tensor) -> NDArray[np.uint16]:
    return slice_arrays.quantise((pictures[:, 0].cpu().numpy() + np.float32(1)) / np.float32(2))
