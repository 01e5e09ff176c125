"""Intensities of a slice as 0..1: one scale of Hounsfield units for CT, percentiles inside the head for MR; both can be undone."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.domain import Modality

Picture = NDArray[np.float32]
Numbers = TypeVar("Numbers", bound=Any)  # numpy array or torch tensor

CT_LOWEST, CT_HIGHEST = -1000.0, 3000.0  # HU, air to enamel: 0 and 1 of the networks' scale
CT_MIDDLE, CT_SOFTNESS = 40.0, 100.0  # HU: where the scale is steepest, and how far around it it stays nearly linear
_FIRST, _LAST = (float(np.arcsinh((end - CT_MIDDLE) / CT_SOFTNESS)) for end in (CT_LOWEST, CT_HIGHEST))

BRAIN_WINDOW = params.Window(level=40, width=80)  # what heads are searched and judged in, whatever window is stored


def view(pixels: Picture, unit: str, modality: str) -> Picture:
    """A slice (H, W) as a person would display it, 0..1: what the head finder and the quality checks look at.

    CT in Hounsfield units (`unit` "hu") goes through the brain window; grey pictures of 0..1 stay; raw MR intensities are stretched
    from their minimum to their 99.5th percentile.
    """
    if unit == "hu" and modality == "ct":
        return stretch(pixels, *window_bounds(BRAIN_WINDOW))
    if pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1:
        return np.asarray(pixels, np.float32)
    return stretch(pixels, float(pixels.min()), float(np.percentile(pixels, 99.5)))


def ct_to_unit(hu: Numbers) -> Numbers:
    """Hounsfield units as 0..1, the scale on which networks see and make CT; array or tensor. Values beyond the ends are clipped.

    asinh is steep around CT_MIDDLE, where soft tissue lies, and flattens like a logarithm towards air and bone, smoothly and without a
    gap: 80 HU of brain take 11 % of the scale, where a linear one of the same range gives them 2 %.
    """
    clipped = hu.clip(CT_LOWEST, CT_HIGHEST)
    arcsinh = clipped - CT_MIDDLE
    arcsinh = np.arcsinh(arcsinh / CT_SOFTNESS) if isinstance(hu, np.ndarray) else (arcsinh / CT_SOFTNESS).asinh()
    return (arcsinh - _FIRST) / (_LAST - _FIRST)


def unit_to_ct(unit: Numbers) -> Numbers:
    """The inverse of `ct_to_unit`: Hounsfield units of values in 0..1, array or tensor."""
    arcsinh = unit.clip(0, 1) * (_LAST - _FIRST) + _FIRST
    return (np.sinh(arcsinh) if isinstance(unit, np.ndarray) else arcsinh.sinh()) * CT_SOFTNESS + CT_MIDDLE


def ct_to_display(unit: Picture, window: params.Window) -> Picture:
    """CT on the networks' scale as a picture in 0..1 of a display window."""
    return stretch(unit_to_ct(np.asarray(unit, np.float32)), *window_bounds(window))


def display(images: Picture, modality: str, window: params.Window) -> Picture:
    """What a person sees of images (..., H, W) on the networks' scale, in 0..1: CT in `window`, MR as it is."""
    return ct_to_display(images, window) if modality == Modality.CT else images


def window_bounds(window: params.Window) -> tuple[float, float]:
    """Hounsfield units shown as black and as white."""
    return window.level - window.width / 2, window.level + window.width / 2


def ct_units(pixels: Picture, unit: str, window: params.Window) -> Picture:
    """CT pixels (H, W) in Hounsfield units, or as a picture in 0..1 of a display window, on the networks' scale."""
    if unit == "hu":
        return ct_to_unit(np.asarray(pixels, np.float32))
    low, high = window_bounds(window)
    return ct_to_unit(low + np.clip(np.asarray(pixels, np.float32), 0, 1) * np.float32(high - low))


def stretch(pixels: Picture, low: float, high: float) -> Picture:
    """`pixels` with `low` at 0 and `high` at 1, clipped; all 0 where they are no range."""
    if high <= low:
        return np.zeros(pixels.shape, np.float32)
    return np.clip((np.asarray(pixels, np.float32) - low) / (high - low), 0, 1)
