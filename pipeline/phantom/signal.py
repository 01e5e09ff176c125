"""From tissue to picture: CT from Hounsfield units, MR from the signals of `sequences.py`, each with what its scanner adds."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.phantom.anatomy import Plane
from pipeline.phantom.sequences import FATTY, Sequence, at_field, compute_signal
from pipeline.phantom.shapes import Floats, Layer, enlarge, soften
from pipeline.phantom.tissues import HU_SCATTER, PROPERTIES, Tissue


def composite(layers: list[Layer], value: dict[Tissue, float], background: float) -> Floats:
    """Paint the layers one over the other with one value a tissue: partial volume is linear in CT and MR alike. Shape (H, W)."""
    picture = np.full(layers[0].opacity.shape, background, np.float32)
    change = np.empty_like(picture)
    for tissue, opacity in layers:
        np.subtract(np.float32(value[tissue]), picture, out=change)
        change *= opacity
        picture += change
    return picture


def label_tissues(layers: list[Layer]) -> NDArray[np.uint8]:
    """The tissue that fills most of each pixel, as `Tissue` values, (H, W)."""
    tissues = np.zeros(layers[0].opacity.shape, np.uint8)
    for tissue, opacity in layers:
        tissues[opacity > 0.5] = tissue
    return tissues


def draw_units(g: np.random.Generator) -> dict[Tissue, float]:
    """Hounsfield units of one subject's tissues, scattered around the tabled ones as people and scanners differ."""
    units = {tissue: p.hu * float(np.exp(HU_SCATTER[tissue] * g.normal())) for tissue, p in PROPERTIES.items()}
    level, contrast = 34 + g.normal(0, 1.5), 3.2 * g.uniform(0.5, 1.5)
    return units | {Tissue.GREY: level + contrast, Tissue.WHITE: level - contrast, Tissue.CSF: g.normal(7, 2.5)}


def draw_signals(sequence: Sequence, g: np.random.Generator) -> dict[Tissue, float]:
    """MR signal of one subject's tissues under `sequence`, their relaxation times scattered around the tabled ones."""
    signals = {}
    scanner = g.standard_normal(4) * (0.0, 0.05, 0.08, 0.08)  # field strength and fit: all tissues alike
    for tissue, tabled in PROPERTIES.items():
        density, t1, agent, t2 = np.exp(scanner + g.standard_normal(4) * (0.03, 0.05, 0.1, 0.05))
        p = at_field(tabled, sequence.field)
        scattered = p._replace(density=p.density * density, t1=p.t1 * t1, t1_agent=p.t1_agent * agent, t2=p.t2 * t2)
        signals[tissue] = compute_signal(scattered, sequence) * (sequence.fat if tissue in FATTY else 1.0)
    return signals


def acquire_ct(plane: Plane, units: dict[Tissue, float], g: np.random.Generator) -> Floats:
    """Hounsfield units (size, size): partial volume, beam hardening under the skull, noise, and the head rest outside the head."""
    part = composite(plane.layers, units, -1000.0)
    depth = np.maximum(-plane.inner_skull, 0)
    cup = np.float32(g.uniform(0, 7)) * np.exp(depth * np.float32(-1 / g.uniform(4, 12)))
    part += np.where(plane.inner_skull < 1, cup, 0)
    spacing = plane.frame.spacing
    picture = plane.frame.to_picture(part, -1000.0)
    np.maximum(picture, -1000, out=picture)
    add_head_rest(picture, plane, g)
    picture = ndimage.gaussian_filter(picture, g.uniform(0.35, 0.7) / spacing)
    grain = ndimage.gaussian_filter(g.standard_normal(picture.shape, dtype=np.float32), 0.45 / spacing)
    picture += grain * np.float32(g.uniform(1.0, 4.5) / grain.std())
    return np.clip(picture, -1024, 3000)


def add_head_rest(picture: Floats, plane: Plane, g: np.random.Generator) -> None:
    """Paint the scanner's head rest into `picture` (HU): an arc below the back of the head, sometimes cut by the border or absent."""
    if g.random() < 0.2:
        return
    frame = plane.frame
    rows, columns = np.nonzero(plane.head < 0)
    down, across = frame.offsets()
    back, middle = (float(down[rows].max()), float(across[columns].mean())) if len(rows) else (80.0, 0.0)
    radius = g.uniform(105, 150)  # mm
    centre = back + g.uniform(2, 22) - radius
    middle += g.normal(0, 5)
    half, reach, gap = g.uniform(0.6, 1.8), g.uniform(0.7, 1.3), g.uniform(0.2, 0.6) if g.random() < 0.7 else 0.0
    brightness = np.float32(g.uniform(60, 400))
    first = frame.size // 2  # it lies in the lower half
    y = (np.arange(first, frame.size, dtype=np.float32) - (frame.size - 1) / 2)[:, None] * np.float32(frame.spacing) - np.float32(centre)
    x = (np.arange(frame.size, dtype=np.float32) - (frame.size - 1) / 2)[None, :] * np.float32(frame.spacing) - np.float32(middle)
    arc = np.abs(np.sqrt(x * x + y * y) - np.float32(radius)) - np.float32(half)
    bearing = np.abs(x) / np.maximum(y, 1e-3)  # the lowest part often lies beyond the reconstructed circle
    arc[(bearing > np.tan(reach)) | (bearing < np.tan(gap)) | (y <= 0)] = 99
    lower = picture[first:]
    lower += soften(arc, 1.2) * (lower < -500) * (brightness - lower)


def acquire_mr(plane: Plane, signals: dict[Tissue, float], g: np.random.Generator) -> Floats:
    """Magnitude picture (size, size) in 0..1: 1 is the brightest that the scale shows; bias field, resolution, ghost, Rician noise."""
    part = composite(plane.layers, signals, 0.0)
    part *= draw_bias_field(part.shape, g)
    inside = part[plane.head < 0]
    part /= np.float32(max(float(np.percentile(inside, g.uniform(98.6, 99.9))), 1e-3) if inside.size else 1.0)
    spacing = plane.frame.spacing
    picture = ndimage.gaussian_filter(plane.frame.to_picture(part, 0.0), g.uniform(0.3, 0.9) / spacing)
    if g.random() < 0.4:
        shift = int(g.integers(picture.shape[0] // 4, picture.shape[0] // 2))
        picture += np.float32(g.uniform(0.005, 0.03)) * np.roll(picture, shift, axis=int(g.integers(2)))
    noise = g.standard_normal((2, *picture.shape), dtype=np.float32) * np.float32(g.uniform(0.004, 0.03))
    noise[0] += picture
    return np.clip(np.sqrt(noise[0] ** 2 + noise[1] ** 2), 0, 1)


def draw_bias_field(shape: tuple[int, ...], g: np.random.Generator) -> Floats:
    """Receive coil shading, mean near 1: a smooth field of a few degrees of freedom."""
    coarse = np.exp(g.normal(0, g.uniform(0.03, 0.18), (4, 4))).astype(np.float32)
    return enlarge(ndimage.zoom(coarse, 4, order=3, mode="nearest"), shape, max(shape) / 15)
