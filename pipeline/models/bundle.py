"""Trained generators as files: model.json says how to rebuild the networks, safetensors hold their weights."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from pipeline import params
from pipeline.errors import UserError
from pipeline.models.generator import CONTRASTS, Generator, build_generator

__all__ = ["CONTRASTS", "load_generator", "load_preprocess", "translate"]

# What models were before these could be chosen; their model.json does not say.
BEFORE = {"upsampling": "transpose", "norm": "instance", "initialisation": "normal", "discriminator": "patch"}

CPU_PIXELS = 2**16  # of one call: 16 slices of 64×64, one of 256×256
STREAMS = 4  # calls at most that go on side by side on a CPU; each takes memory for itself


def load_generator(folder: Path, direction: str, device: str = "cpu") -> Generator:
    """The generator of `direction` in evaluation mode. Raises UserError when model.json or the weights are missing or don't fit."""
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        generator = build_generator(params.Model.model_validate(BEFORE | facts["model"]), direction)
        generator.load_state_dict(load_file(folder / facts["directions"][direction]["weights"], device=device))
    except (FileNotFoundError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder}: no usable model for {direction} ({error}); run dvc repro, or dvc pull") from None
    return generator.to(device).eval()


def load_preprocess(folder: Path) -> params.Preprocess:
    """How the slices were prepared that the models in `folder` were trained on. Raises UserError when model.json does not say it."""
    try:
        return params.Preprocess.model_validate(json.loads((folder / "model.json").read_text(encoding="utf-8"))["preprocess"])
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(f"{folder}: no usable model.json ({error}); run dvc repro, or name a folder with --model") from None


def translate(
    generator: nn.Module, images: NDArray[np.float32], contrast: Sequence[str] | str | None = None, batch_size: int = 16
) -> NDArray[np.float32]:
    """Translate `images` (N, H, W) in 0..1 to the same shape and range; `contrast` names the wanted MR contrast, "" where unknown.

    At most `batch_size` at a time. On a CPU no more than CPU_PIXELS, since large batches of large slices take twice as long there, but
    several such parts side by side, each with its share of the cores, which takes a fifth less than one after the other with all.
    """
    names = [contrast or ""] * len(images) if contrast is None or isinstance(contrast, str) else list(contrast)
    wanted = torch.tensor([[float(name == known) for known in CONTRASTS] for name in names])
    device = next(generator.parameters()).device
    streams = 1
    if device.type == "cpu":
        most = max(1, CPU_PIXELS // (images.shape[1] * images.shape[2]))
        streams = min(STREAMS, batch_size // most, torch.get_num_threads(), -(-len(images) // most)) or 1
        batch_size = min(batch_size, most)
    result = np.empty(images.shape, np.float32)

    @torch.inference_mode()
    def work(start: int) -> None:
        part = slice(start, start + batch_size)
        batch = torch.from_numpy(np.asarray(images[part], np.float32)).unsqueeze(1).to(device) * 2 - 1
        result[part] = ((generator(batch, wanted[part].to(device)) + 1) / 2).squeeze(1).cpu().numpy()

    starts = range(0, len(images), batch_size)
    if streams == 1:
        for start in starts:
            work(start)
        return result
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(streams, initializer=torch.set_num_threads, initargs=(threads // streams,)) as pool:
            list(pool.map(work, starts))
    finally:
        torch.set_num_threads(threads)  # for threads that begin later; this one's number was never changed
    return result
