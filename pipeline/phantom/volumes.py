"""Whole volumes of one simulated subject with known truth: CT in Hounsfield units, MR, head, tissues, on one grid in millimetres."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import Contrast
from pipeline.phantom.anatomy import Subject, centre_along, cut_around, draw_subject
from pipeline.phantom.frames import HEAD_LENGTH, HEAD_WIDTH
from pipeline.phantom.sequences import Sequence, draw_sequence
from pipeline.phantom.shapes import Floats
from pipeline.phantom.signal import composite, draw_signals, draw_units, label_tissues
from pipeline.phantom.tissues import Tissue

AIR = -1000.0  # HU
LOWEST, HIGHEST = -106.0, 98.0  # mm from the middle of the head: from the teeth to above the vertex
Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class SimulatedVolume:
    """One subject, arrays (x, y, z): x from right to left, y from front to back, z from feet to head, as DICOM counts.

    ct int16 Hounsfield units and mr float32 0..1 as their scanners give them; ct_truth and mr_truth without noise, shading and blur;
    mask bool, the head; labels uint8 of `Tissue`; lesion bool; `affine` (4, 4) from voxel indices to mm in NIfTI's directions (x to the
    left is negative, y to the back is negative); `spacing` mm along x, y, z.
    """

    ct: NDArray[np.int16]
    mr: Floats
    ct_truth: NDArray[np.int16]
    mr_truth: Floats
    mask: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    lesion: NDArray[np.bool_]
    affine: NDArray[np.float64]
    spacing: Millimetres
    contrast: Contrast
    sequence: Sequence


def simulate_volume(
    seed: int,
    spacing: Millimetres = (1.0, 1.0, 1.0),
    *,
    contrast: str | None = None,
    extent: tuple[float, float] = (LOWEST, HIGHEST),
    healthy: bool = False,
    sequence: Sequence | None = None,
    signals: Mapping[Tissue, float] | None = None,
) -> SimulatedVolume:
    """The subject of `seed` on voxels of `spacing` mm (x and y alike), planes across from `extent[0]` to `extent[1]` mm above its middle.

    The same seed gives the same head at every spacing. `healthy`: without the lesion and surgery that the seed may have.
    `sequence`: of the MR, instead of one drawn for `contrast`. `signals`: of the MR's tissues, instead of those that a sequence gives.
    Raises ValueError where x and y differ, or on a contrast other than t1, t2, flair, pd.
    """
    if spacing[0] != spacing[1]:
        raise ValueError(f"spacing = {spacing}: x and y must be alike")
    subject = replace(draw_subject(seed), lesion=None, surgery=None) if healthy else draw_subject(seed)
    scanner = np.random.default_rng([seed, 5])
    drawn = draw_sequence(scanner, contrast)
    sequence = sequence or drawn
    units, own = draw_units(scanner), draw_signals(sequence, scanner)
    ct, mr, labels, mask, lesion = _stack_planes(subject, spacing, extent, units, dict(signals or own))
    ct[~mask] = AIR
    mr[~mask] = 0
    mr /= max(float(np.percentile(mr[mask], 99.5)), 1e-3) if mask.any() else 1.0
    return SimulatedVolume(
        ct=_to_hounsfield(_scan_ct(ct, spacing, scanner)),
        mr=_scan_mr(mr, spacing, scanner),
        ct_truth=_to_hounsfield(ct),
        mr_truth=np.clip(mr, 0, 1),
        mask=mask,
        labels=labels,
        lesion=lesion,
        affine=_make_affine(ct.shape, spacing),
        spacing=spacing,
        contrast=sequence.contrast,
        sequence=sequence,
    )


def _stack_planes(
    subject: Subject, spacing: Millimetres, extent: tuple[float, float], units: dict[Tissue, float], signals: dict[Tissue, float]
) -> tuple[Any, ...]:
    """CT, MR, labels, mask and lesion (x, y, z) as the tissues' values make them, air outside the head."""
    size = 2 * round(max(HEAD_LENGTH, HEAD_WIDTH) / spacing[0] / 2)
    planes = []
    for height in np.arange(extent[0], extent[1], spacing[2]):
        plane = cut_around(subject, centre_along(subject, float(height)), size, spacing[0], spacing[2])
        frame, head = plane.frame, plane.head < 0
        planes.append(
            (
                frame.to_picture(np.where(head, composite(plane.layers, units, AIR), np.float32(AIR)), AIR),
                frame.to_picture(np.where(head, composite(plane.layers, signals, 0.0), np.float32(0)), 0.0),
                frame.to_label_picture((label_tissues(plane.layers) * head).astype(np.uint8)),
                frame.to_picture(plane.head, 99.0) < 0,
                frame.to_picture(plane.lesion, 0.0) > 0.5,
            )
        )
    return tuple(np.ascontiguousarray(np.stack(each).transpose(2, 1, 0)) for each in zip(*planes, strict=True))


def _scan_ct(truth: Floats, spacing: Millimetres, g: np.random.Generator) -> Floats:
    """Resolution of the kernel in the plane, and noise that neighbouring pixels share."""
    sigma = (0.5 / spacing[0], 0.5 / spacing[1], 0)
    noise = ndimage.gaussian_filter(g.standard_normal(truth.shape, dtype=np.float32), sigma)
    noise *= np.float32(g.uniform(2, 8) / max(float(noise.std()), 1e-6))
    blurred: Floats = ndimage.gaussian_filter(truth, sigma) + noise
    return blurred


def _scan_mr(truth: Floats, spacing: Millimetres, g: np.random.Generator) -> Floats:
    """Shading by the coil all through the volume, resolution, Rician noise; 0..1."""
    coarse = g.normal(0, g.uniform(0.03, 0.15), (4, 4, 4)).astype(np.float32)
    shade = np.exp(ndimage.zoom(coarse, np.array(truth.shape) / 4, order=3, mode="nearest", grid_mode=True))
    shaded = ndimage.gaussian_filter(truth * shade, [0.4 / side for side in spacing])
    level = np.float32(g.uniform(0.004, 0.02))
    real, imaginary = (level * g.standard_normal(truth.shape, dtype=np.float32) for _ in range(2))
    magnitude: Floats = np.clip(np.sqrt((shaded + real) ** 2 + imaginary**2), 0, 1)
    return magnitude


def _to_hounsfield(values: Floats) -> NDArray[np.int16]:
    return np.rint(np.clip(values, -1024, 3071)).astype(np.int16)


def _make_affine(shape: tuple[int, ...], spacing: Millimetres) -> NDArray[np.float64]:
    """Voxel indices to mm, NIfTI's way (x to the right, y to the front, z up), its origin in the volume's middle."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
