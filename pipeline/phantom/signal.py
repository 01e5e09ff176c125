"""From tissue to picture: CT from Hounsfield units, MR from proton density, T1 and T2 by the signal equations of spin echo.

    spin echo           S = PD |1 - 2 exp(-(TR - TE/2)/T1) + exp(-TR/T1)| exp(-TE/T2)
    inversion recovery  S = PD |1 - 2 exp(-TI/T1) + 2 exp(-(TR - TE/2)/T1) - exp(-TR/T1)| exp(-TE/T2)

(Bernstein, King, Zhou, Handbook of MRI Pulse Sequences, 2004, chapters 14.2 and 14.3; times in ms, magnitude reconstruction.)
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.phantom.anatomy import Plane
from pipeline.phantom.shapes import Floats, Layer, soft
from pipeline.phantom.tissues import PROPERTIES, Properties, Tissue

Contrast = Literal["t1", "t2", "flair", "pd"]
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)


@dataclass(frozen=True)
class Sequence:
    """One MR acquisition: times in ms, whether contrast agent was given, and the inversion time (0: plain spin echo)."""

    contrast: Contrast
    tr: float
    te: float
    ti: float = 0.0
    agent: bool = False


def spin_echo(density: float, t1: float, t2: float, tr: float, te: float) -> float:
    """Signal of a spin echo, 0..density; all times in ms."""
    longitudinal = 1 - 2 * np.exp(-(tr - te / 2) / t1) + np.exp(-tr / t1)
    return float(density * abs(longitudinal) * np.exp(-te / t2))


def inversion_recovery(density: float, t1: float, t2: float, tr: float, te: float, ti: float) -> float:
    """Magnitude signal of an inversion recovery spin echo, 0..density; all times in ms."""
    longitudinal = 1 - 2 * np.exp(-ti / t1) + 2 * np.exp(-(tr - te / 2) / t1) - np.exp(-tr / t1)
    return float(density * abs(longitudinal) * np.exp(-te / t2))


def tissue_signal(tissue: Properties, sequence: Sequence) -> float:
    """Signal of one tissue under `sequence`."""
    t1 = tissue.t1_agent if sequence.agent else tissue.t1
    if sequence.ti > 0:
        return inversion_recovery(tissue.density, t1, tissue.t2, sequence.tr, sequence.te, sequence.ti)
    return spin_echo(tissue.density, t1, tissue.t2, sequence.tr, sequence.te)


def draw_sequence(g: np.random.Generator, contrast: str | None = None) -> Sequence:
    """A clinical acquisition of the wanted contrast (any, if None), its times drawn from what scanners use."""
    wanted = contrast or str(g.choice(CONTRASTS, p=[0.35, 0.35, 0.2, 0.1]))
    if wanted == "t1":
        agent = bool(g.random() < 0.45)
        if g.random() < 0.3:
            return Sequence("t1", tr=g.uniform(1800, 2400), te=g.uniform(3, 14), ti=g.uniform(720, 950), agent=agent)
        return Sequence("t1", tr=g.uniform(400, 700), te=g.uniform(8, 18), agent=agent)
    if wanted == "t2":
        return Sequence("t2", tr=g.uniform(2800, 6000), te=g.uniform(80, 125))
    if wanted == "flair":
        tr = g.uniform(7500, 10500)
        fluid = PROPERTIES[Tissue.CSF].t1
        null = fluid * (np.log(2) - np.log1p(np.exp(-tr / fluid)))  # inversion time at which fluid gives no signal
        return Sequence("flair", tr=tr, te=g.uniform(85, 130), ti=null * g.uniform(0.92, 1.08))
    if wanted == "pd":
        return Sequence("pd", tr=g.uniform(2000, 3500), te=g.uniform(12, 30))
    raise ValueError(f"contrast = {wanted!r}: expected one of {', '.join(CONTRASTS)}")


def composite(layers: list[Layer], value: dict[Tissue, float], background: float) -> Floats:
    """Paint the layers one over the other with one value a tissue: partial volume is linear in CT and MR alike. Shape (H, W)."""
    picture = np.full(layers[0].opacity.shape, background, np.float32)
    for tissue, opacity in layers:
        picture += opacity * (np.float32(value[tissue]) - picture)
    return picture


def labels(layers: list[Layer]) -> NDArray[np.uint8]:
    """The tissue that fills most of each pixel, as `Tissue` values, (H, W)."""
    found = np.zeros(layers[0].opacity.shape, np.uint8)
    for tissue, opacity in layers:
        found[opacity > 0.5] = tissue
    return found


def ct_picture(plane: Plane, spacing: float, g: np.random.Generator) -> Floats:
    """Hounsfield units (H, W): partial volume, beam hardening under the skull, noise, and the head rest outside the head."""
    jitter = {t: p.hu * (1 + 0.04 * g.normal()) for t, p in PROPERTIES.items()}
    contrast = g.uniform(0.5, 1.5)
    level = g.normal(0, 1.5)
    jitter[Tissue.GREY] = 34 + level + 3.2 * contrast
    jitter[Tissue.WHITE] = 34 + level - 3.2 * contrast
    jitter[Tissue.CSF] = g.normal(7, 2.5)
    picture = composite(plane.layers, jitter, -1000.0)
    rest = head_rest(plane, spacing, g)
    picture += rest * (np.float32(g.uniform(60, 400)) - picture)
    depth = np.maximum(-plane.inner_skull, 0)
    cup = g.uniform(0, 7) * np.exp(-depth / g.uniform(4, 12)) - g.uniform(0, 2) * np.minimum(depth / 60, 1)
    picture += np.where(plane.inner_skull < 1, cup, 0).astype(np.float32)
    picture = ndimage.gaussian_filter(picture, g.uniform(0.35, 0.7) / spacing)
    grain = ndimage.gaussian_filter(g.standard_normal(picture.shape, dtype=np.float32), 0.45 / spacing)
    picture += grain * np.float32(g.uniform(1.0, 4.5) / grain.std())
    found: Floats = np.clip(picture, -1024, 3000).astype(np.float32)
    return found


def head_rest(plane: Plane, spacing: float, g: np.random.Generator) -> Floats:
    """Opacity of the scanner's head rest: an arc below the back of the head, sometimes cut by the picture's border, sometimes absent."""
    size = plane.head.shape[0]
    if g.random() < 0.2:
        return np.zeros_like(plane.head)
    rows, columns = np.nonzero(plane.head < 0)
    if len(rows) == 0:
        return np.zeros_like(plane.head)
    radius = g.uniform(105, 150)  # mm
    bottom = rows.max() * spacing + g.uniform(2, 22)
    middle = columns.mean() * spacing + g.normal(0, 5)
    down, right = np.mgrid[:size, :size].astype(np.float32) * np.float32(spacing)
    distance = np.hypot(down - (bottom - radius), right - middle)
    arc = np.abs(distance - radius) - g.uniform(0.6, 1.8)
    angle = np.abs(np.arctan2(right - middle, down - (bottom - radius)))
    gap = g.uniform(0.2, 0.6) if g.random() < 0.7 else 0.0  # the lowest part often lies beyond the reconstructed circle
    arc = np.where((angle < g.uniform(0.7, 1.3)) & (angle > gap), arc, 99).astype(np.float32)
    return soft(arc, 1.2) * (plane.head > 1)


def mr_picture(plane: Plane, spacing: float, sequence: Sequence, g: np.random.Generator) -> Floats:
    """Magnitude picture (H, W) in 0..1: 1 is the brightest that the scale shows; bias field, resolution, ghost, Rician noise."""
    signal = {}
    for tissue, p in PROPERTIES.items():
        jittered = Properties(
            p.hu,
            p.density * (1 + 0.04 * g.normal()),
            p.t1 * np.exp(0.08 * g.normal()),
            p.t1_agent * np.exp(0.12 * g.normal()),
            p.t2 * np.exp(0.1 * g.normal()),
        )
        signal[tissue] = tissue_signal(jittered, sequence)
    picture = composite(plane.layers, signal, 0.0)
    picture *= bias_field(picture.shape[0], g)
    picture = ndimage.gaussian_filter(picture, g.uniform(0.3, 0.9) / spacing)
    if g.random() < 0.4:
        shift = int(g.integers(picture.shape[0] // 4, picture.shape[0] // 2))
        picture += np.float32(g.uniform(0.005, 0.03)) * np.roll(picture, shift, axis=int(g.integers(2)))
    inside = picture[plane.head < 0]
    top = float(np.percentile(inside, g.uniform(98.0, 99.8))) if inside.size else 1.0
    picture /= np.float32(max(top, 1e-3))
    sigma = np.float32(g.uniform(0.004, 0.03))
    noise = g.standard_normal((2, *picture.shape), dtype=np.float32) * sigma
    return np.clip(np.hypot(picture + noise[0], noise[1]), 0, 1).astype(np.float32)


def bias_field(size: int, g: np.random.Generator) -> Floats:
    """Receive coil shading (size, size), mean near 1: a smooth field of a few degrees of freedom."""
    coarse = np.exp(g.normal(0, g.uniform(0.03, 0.18), (4, 4))).astype(np.float32)
    field: Floats = ndimage.zoom(coarse, size / 4, order=3, mode="nearest", grid_mode=True)[:size, :size]
    return field
