"""Scores of one translated CT volume in Hounsfield units. A new one is a line in VOLUME_SCORES and one in `pipeline.domain.SCORES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.evaluation import synthrad
from pipeline.evaluation.brain_window import dice
from pipeline.evaluation.similarity import PERFECT_PSNR
from pipeline.evaluation.water_path import WaterPaths, water_paths

Hounsfield = NDArray[np.floating]
Mask = NDArray[np.bool_]

BONE = 250.0  # HU and more
AIR = -300.0  # HU and less


@dataclass(frozen=True)
class VolumeTranslation:
    """A synthetic CT and the true one, (I, J, K) in HU on the same voxels of `voxel_size` mm; only voxels in `mask`, the body, count."""

    prediction: Hounsfield
    truth: Hounsfield
    mask: Mask
    voxel_size: tuple[float, float, float]

    @cached_property
    def bone(self) -> tuple[Mask, Mask]:
        """Bone of prediction and truth."""
        return self.mask & (self.prediction >= BONE), self.mask & (self.truth >= BONE)

    @cached_property
    def water_paths(self) -> WaterPaths:
        return water_paths(self.prediction, self.truth, self.mask, self.voxel_size)

    def mae_where(self, part: Mask) -> float:
        return synthrad.mae(self.prediction, self.truth, self.mask & part)


def hausdorff_95(prediction: Mask, truth: Mask, voxel_size: tuple[float, float, float]) -> float:
    """95th percentile of the distances in mm between two surfaces, the larger of both ways (Huttenlocher et al., IEEE PAMI 15(9), 1993).

    NaN where neither has a voxel, the volume's diagonal where only one has.
    """
    if not prediction.any() or not truth.any():
        diagonal = float(np.linalg.norm(np.array(truth.shape) * voxel_size))
        return float("nan") if not prediction.any() and not truth.any() else diagonal
    box = ndimage.find_objects((prediction | truth).astype(np.uint8))[0]
    surfaces = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (prediction, truth)]
    distances = [ndimage.distance_transform_edt(~surface, sampling=voxel_size) for surface in surfaces]
    return float(max(np.percentile(distances[1][surfaces[0]], 95), np.percentile(distances[0][surfaces[1]], 95)))


VOLUME_SCORES: Mapping[str, Callable[[VolumeTranslation], float]] = {
    "volume_mae_hu": lambda t: synthrad.mae(t.prediction, t.truth, t.mask),
    "volume_psnr": lambda t: min(PERFECT_PSNR, synthrad.psnr(t.prediction, t.truth, t.mask)),
    "volume_ms_ssim": lambda t: synthrad.ms_ssim(t.prediction, t.truth, t.mask),
    "me_hu": lambda t: float((np.float64(t.prediction) - t.truth)[t.mask].mean()) if t.mask.any() else float("nan"),
    "air_mae_hu": lambda t: t.mae_where(t.truth <= AIR),
    "soft_mae_hu": lambda t: t.mae_where((t.truth > AIR) & (t.truth < BONE)),
    "bone_mae_hu": lambda t: t.mae_where(t.truth >= BONE),
    "bone_dice": lambda t: dice(*t.bone),
    "bone_hd95_mm": lambda t: hausdorff_95(*t.bone, t.voxel_size),
    "water_path_mm": lambda t: t.water_paths.error_mm if t.mask.any() else float("nan"),
    "water_path_percent": lambda t: t.water_paths.error_percent if t.mask.any() else float("nan"),
}


def score_volume(translation: VolumeTranslation) -> dict[str, float]:
    """Every score; NaN where one is undefined. Raises ValueError for NaN voxels or different sizes."""
    for name, voxels in (("prediction", translation.prediction), ("truth", translation.truth)):
        if voxels.shape != translation.mask.shape:
            raise ValueError(f"{name} {voxels.shape} and mask {translation.mask.shape} differ in size")
        if not np.isfinite(voxels).all():
            raise ValueError(f"{name} holds NaN or infinite voxels")
    return {name: score(translation) for name, score in VOLUME_SCORES.items()}
