"""A model of another training on slices that were prepared for this one: resized to its size, and its translations resized back."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.domain import Direction
from pipeline.errors import UserError
from pipeline.models.folder import load_preprocess
from pipeline.models.generator import Generator
from pipeline.models.inference import load_generator, translate
from pipeline.params import Preprocess

Images = NDArray[np.float32]
FREE = ("pixels", "teacher_pairs", "teacher_across")  # of `preprocess`: what two models that are compared may differ in


def load_other_model(folder: Path, direction: Direction, ours: Preprocess) -> Callable[[Images, Sequence[str], int], Images]:
    """The generator in a folder with model.json as a function of slices, contrasts and how many at once; see `translate_resized`.

    Raises UserError when there is none, or it sees slices prepared in another way than `ours`.
    """
    theirs = load_preprocess(folder)
    check_comparable(ours, theirs)
    return partial(translate_resized, load_generator(folder, direction), theirs.pixels)


def translate_resized(generator: Generator, pixels: int, images: Images, contrast: Sequence[str], at_once: int) -> Images:
    """Translate slices (N, size, size) in 0..1 by a generator for pictures of `pixels` a side, at most `at_once` at a time."""
    return resize(translate(generator, resize(images, pixels), contrast, at_once), images.shape[-1])


def resize(images: Images, size: int) -> Images:
    """`images` (N, H, W) as (N, size, size)."""
    if images.shape[-1] == size:
        return images
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)) for image in images])


def check_comparable(ours: Preprocess, theirs: Preprocess) -> None:
    """Raises UserError when the models see slices prepared differently in more than size."""
    ours_by_key, theirs_by_key = ours.model_dump(exclude=set(FREE)), theirs.model_dump(exclude=set(FREE))
    other = [key for key in ours_by_key if ours_by_key[key] != theirs_by_key[key]]
    if other:
        raise UserError(f"it was trained on slices prepared with another {' and '.join(other)}")
