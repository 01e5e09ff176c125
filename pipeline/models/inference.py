"""Trained generators at work: read from their folder, translating pictures, and how sure they are.

model.json says how to rebuild the networks, safetensors hold their weights.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pipeline.domain import CONTRASTS
from pipeline.errors import UserError
from pipeline.models.fast import speed_up
from pipeline.models.generator import Generator, build_generator
from pipeline.params import Model, Preprocess

Images = NDArray[np.float32]

CPU_PIXELS = 2**16  # of one call: 16 slices of 64×64, one of 256×256
STREAMS = 4  # calls at most that go on side by side on a CPU; each takes memory for itself
SHIFTS = ((1, 0), (0, 1), (-1, 0), (0, -1), (2, 2), (-2, -2))  # pixels down and across


def load_generator(folder: Path, direction: str, device: str = "cpu") -> Generator:
    """The generator of `direction` in evaluation mode. Raises UserError when model.json or the weights are missing or don't fit."""
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        generator = build_generator(Model.model_validate(facts["model"]), direction)
        generator.load_state_dict(load_file(folder / facts["directions"][direction]["weights"], device=device))
    except (FileNotFoundError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: no usable model for {direction} ({error}); run dvc repro, or dvc pull") from None
    return speed_up(generator, device).eval()


def load_model(folder: Path) -> Model:
    """What the networks in `folder` are. Raises UserError when model.json does not say it."""
    try:
        return Model.model_validate(json.loads((folder / "model.json").read_text(encoding="utf-8"))["model"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); name a folder with trained models") from None


def load_preprocess(folder: Path) -> Preprocess:
    """How the slices were prepared that the models in `folder` were trained on. Raises UserError when model.json does not say it."""
    try:
        return Preprocess.model_validate(json.loads((folder / "model.json").read_text(encoding="utf-8"))["preprocess"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); run dvc repro, or name a folder with --model") from None


def translate(generator: nn.Module, images: Images, contrast: Sequence[str] | str | None = None, batch_size: int = 16) -> Images:
    """Translate `images` (N, H, W) in 0..1 to the same shape and range; `contrast` names the wanted MR contrast, "" where unknown.

    At most `batch_size` at a time. On a CPU no more than CPU_PIXELS, since large batches of large slices take twice as long there, but
    several such parts side by side, each with its share of the cores, which takes a fifth less than one after the other with all.
    """
    names = [contrast or ""] * len(images) if contrast is None or isinstance(contrast, str) else list(contrast)
    conditions = torch.tensor([[float(name == known) for known in CONTRASTS] for name in names])
    device = next(generator.parameters()).device
    streams = 1
    if device.type == "cpu":
        most = max(1, CPU_PIXELS // (images.shape[1] * images.shape[2]))
        streams = min(STREAMS, batch_size // most, torch.get_num_threads(), -(-len(images) // most)) or 1
        batch_size = min(batch_size, most)
    result = np.empty(images.shape, np.float32)

    @torch.inference_mode()
    def translate_part(start: int) -> None:
        part = slice(start, start + batch_size)
        batch = torch.from_numpy(np.asarray(images[part], np.float32)).unsqueeze(1).to(device) * 2 - 1
        result[part] = ((generator(batch, conditions[part].to(device)) + 1) / 2).squeeze(1).cpu().numpy()

    starts = range(0, len(images), batch_size)
    if streams == 1:
        for start in starts:
            translate_part(start)
        return result
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(streams, initializer=torch.set_num_threads, initargs=(threads // streams,)) as pool:
            list(pool.map(translate_part, starts))
    finally:
        torch.set_num_threads(threads)  # for threads that begin later; this one's number was never changed
    return result


def estimate_uncertainty(
    generator: nn.Module,
    images: Images,
    contrast: Sequence[str] | str | None = None,
    batch_size: int = 16,
    prediction: Images | None = None,
) -> Images:
    """Standard deviation, 0..1, of the translations of `images` (N, H, W) in 0..1 as they are, mirrored, and moved by one or two pixels.

    A network that knows what it sees answers such questions alike. On registered pairs this spread goes with the true error better than
    the residual of translating there and back does (docs/evaluation.md), and it needs one network only.
    `prediction`: the translation of the images as they are, where it is there already.
    """
    total = (translate(generator, images, contrast, batch_size) if prediction is None else prediction).astype(np.float64)
    squares = np.square(total)
    mirrored = translate(generator, np.ascontiguousarray(images[:, :, ::-1]), contrast, batch_size)[:, :, ::-1]
    moved = (_translate_moved(generator, images, shift, contrast, batch_size) for shift in SHIFTS)
    for other in (mirrored, *moved):
        total += other
        squares += np.square(other, dtype=np.float64)
    count = len(SHIFTS) + 2
    return np.sqrt(np.maximum(squares / count - np.square(total / count), 0)).astype(np.float32)


def _translate_moved(
    generator: nn.Module, images: Images, shift: tuple[int, int], contrast: Sequence[str] | str | None, batch_size: int
) -> Images:
    """The translation of moved images, moved back; what leaves on one side enters on the other, which is black."""
    there = translate(generator, np.roll(images, shift, (1, 2)), contrast, batch_size)
    return np.roll(there, (-shift[0], -shift[1]), (1, 2))
