"""Trained generators at work in torch, for training and evaluation; `pipeline.models.runtime` translates without it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipeline.domain import encode_contrast
from pipeline.models.fast import speed_up
from pipeline.models.folder import read_weights, refuse
from pipeline.models.generator import Generator, build_generator
from pipeline.params import Model

Images = NDArray[np.float32]

CPU_PIXELS = 2**16  # of one call: 16 slices of 64×64, one of 256×256
STREAMS = 4  # calls at most that go on side by side on a CPU; each takes memory for itself


def load_generator(folder: Path, direction: str, device: str = "cpu") -> Generator:
    """The generator of `direction` in evaluation mode. Raises UserError when model.json or the weights are missing or don't fit."""
    try:
        facts, file = read_weights(folder, direction)
        generator = build_generator(Model.model_validate(facts["model"]), direction)
        generator.load_state_dict(load_file(file, device=device))
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise refuse(folder, direction, error) from None
    return speed_up(generator, device).eval()


def translate(generator: nn.Module, images: Images, contrast: Sequence[str] | str | None = None, batch_size: int = 16) -> Images:
    """Translate `images` (N, H, W) in 0..1 to the same shape and range; `contrast` names the wanted MR contrast, "" where unknown.

    At most `batch_size` at a time. On a CPU no more than CPU_PIXELS, since large batches of large slices take twice as long there, but
    several such parts side by side, each with its share of the cores, which takes a fifth less than one after the other with all.
    """
    names = [contrast or ""] * len(images) if contrast is None or isinstance(contrast, str) else list(contrast)
    conditions = torch.tensor([encode_contrast(name) for name in names])
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
