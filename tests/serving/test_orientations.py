"""One head stored in every orientation, tilted, coarse and fine: the same synthetic CT in millimetres, as SimpleITK sees the files.

The head is a formula, so that each grid samples it exactly; the generator is a fixed map from MR to HU, so that all that differs is what
lies before and after a network: axes, resampling, framing, the head's outline.
"""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy import ndimage

from pipeline.formats.synthetic import Label
from pipeline.imaging.intensity import ct_to_unit
from pipeline.params import Preprocess
from pipeline.serving.translator import Translator
from tests.imaging.formula import affine_of, depth, sample, save, turned
from tests.serving import examinations

SOFT, STEEP = 50.0, 700.0  # HU of the brain, and by how much brightness 1 is denser
SAME = 1.0  # HU: the rounding of integers, where only the order of the axes differs
ALIKE = 15.0, 40.0  # HU, mean over brain and whole head, where other voxels sampled it; its HU span 700, and its skull is 6 mm thick


class Fixed:
    """Blurs a little, as networks do, and gives HU that grow with brightness."""

    def translate(self, images: np.ndarray, contrast: str | None) -> np.ndarray:
        bright = ndimage.uniform_filter(images, (0, 3, 3), mode="nearest")
        return ct_to_unit(SOFT + STEEP * (bright - 0.5)).astype(np.float32)


@pytest.fixture(scope="module")
def to_ct() -> Translator:
    return Translator(Fixed(), "mr_to_ct", Preprocess(pixels=64, field_of_view=150), conditional=False, label=Label("mr-to-ct"))


@pytest.fixture(scope="module")
def straight(to_ct: Translator, tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[float, ...]], sitk.Image]:
    """The synthetic CT of the head stored to the left, back and head, with voxels of a given size."""
    folder, known = tmp_path_factory.mktemp("straight"), {}

    def translate(spacing: tuple[float, ...]) -> sitk.Image:
        if spacing not in known:
            name = "-".join(map(str, spacing))
            source = save(folder / f"{name}.nii.gz", *affine_of((0, 1, 2), (-1, -1, 1), spacing))
            to_ct.translate(source, folder / f"{name}-ct.nii.gz")
            known[spacing] = sitk.ReadImage(str(folder / f"{name}-ct.nii.gz"))
        return known[spacing]

    return translate


def differences(result: sitk.Image, reference: sitk.Image) -> tuple[float, float]:
    """Mean absolute difference in HU of `result` on the grid of `reference`, in the brain and in all inside the scalp."""
    there = sitk.Resample(result, reference, sitk.Transform(), sitk.sitkLinear, -5000.0, sitk.sitkFloat32)
    size = reference.GetSize()
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ np.reshape(reference.GetDirection(), (3, 3)) @ np.diag(reference.GetSpacing())
    affine[:3, 3] = np.diag([-1, -1, 1]) @ reference.GetOrigin()
    right, front, up = affine[:3, :3] @ np.indices(size).reshape(3, -1) + affine[:3, 3:]
    place = depth(right, front, up).reshape(size)
    one, other = (sitk.GetArrayFromImage(image).transpose(2, 1, 0) for image in (there, reference))
    assert (one[place < 0.92] > -2000).mean() > 0.97  # -5000 where `result` does not reach
    apart = np.abs(one - other)
    return float(apart[place < 0.72].mean()), float(apart[place < 0.92].mean())


RIGHT_HANDED = [
    (axes, signs)
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if np.linalg.det(np.eye(3)[list(axes)].T * signs) > 0
]


def test_all_24_axis_orders_give_the_same_ct_in_the_same_place(to_ct: Translator, straight, tmp_path: Path) -> None:
    assert len(RIGHT_HANDED) == 24
    sizes = (2.0, 2.5, 6.0)  # mm to the right, front and head
    for axes, signs in RIGHT_HANDED:
        spacing = tuple(sizes[axis] for axis in axes)
        affine, shape = affine_of(axes, signs, spacing)
        # Thick planes are axial ones here, in whatever order they are stored.
        source, target = save(tmp_path / "mr.nii.gz", affine, shape), tmp_path / "ct.nii.gz"
        to_ct.translate(source, target)
        result, before = sitk.ReadImage(str(target)), sitk.ReadImage(str(source))
        for what in ("GetSize", "GetOrigin", "GetDirection", "GetSpacing"):
            np.testing.assert_allclose(getattr(result, what)(), getattr(before, what)(), atol=1e-4)
        upright = sitk.DICOMOrient(result, "LPS")
        reference = straight(sizes)
        assert upright.GetSize() == reference.GetSize()
        apart = np.abs(sitk.GetArrayFromImage(upright).astype(int) - sitk.GetArrayFromImage(reference))
        assert sitk.GetArrayViewFromImage(reference).max() > 300  # no display window cuts bone off
        assert apart.max() <= SAME, (axes, signs)


@pytest.mark.parametrize(
    ("degrees", "axis"),
    [pytest.param(6, 0, id="nodding, cut as stored"), pytest.param(25, 0, id="nodding"), pytest.param(-20, 1, id="leaning"), (40, 2)],
)
def test_a_turned_volume_gives_the_same_ct_in_the_same_place(
    to_ct: Translator, straight, tmp_path: Path, degrees: float, axis: int
) -> None:
    """Sagittal planes, as an MPRAGE has them, turned against the patient's axes."""
    affine, shape = affine_of((1, 2, 0), (-1, -1, 1), (2.5, 2.5, 2.5), turned(degrees, axis))
    source = save(tmp_path / "mr.nii.gz", affine, shape)
    to_ct.translate(source, tmp_path / "ct.nii.gz")
    result = sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
    np.testing.assert_allclose(result.GetDirection(), sitk.ReadImage(str(source)).GetDirection(), atol=1e-6)
    brain, all_ = differences(result, straight((2.5, 2.5, 2.5)))
    assert (brain < ALIKE[0], all_ < ALIKE[1]) == (True, True), (brain, all_)


@pytest.mark.parametrize("spacing", [(1.25, 1.25, 5.0), (1.0, 2.9, 5.0)])
def test_other_spacings_give_the_same_ct(to_ct: Translator, straight, tmp_path: Path, spacing: tuple[float, ...]) -> None:
    source = save(tmp_path / "mr.nii.gz", *affine_of((0, 1, 2), (-1, -1, 1), spacing))
    to_ct.translate(source, tmp_path / "ct.nii.gz")
    brain, all_ = differences(sitk.ReadImage(str(tmp_path / "ct.nii.gz")), straight((2.5, 2.5, 2.5)))
    assert (brain < ALIKE[0], all_ < ALIKE[1]) == (True, True), (brain, all_)


def test_a_sagittal_dicom_series_gives_the_same_ct_in_its_own_planes(to_ct: Translator, straight, tmp_path: Path) -> None:
    affine, shape = affine_of((1, 2, 0), (-1, -1, 1), (2.5, 2.5, 2.5))
    examinations.dicom_planes(tmp_path / "mr", sample(affine, shape), affine)
    to_ct.translate(tmp_path / "mr", tmp_path / "ct")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    assert max(differences(reader.Execute(), straight((2.5, 2.5, 2.5)))) < SAME
    before, after = (
        {tuple(map(float, pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient)) for file in (tmp_path / name).iterdir()}
        for name in ("mr", "ct")
    )
    assert after == before


def test_uneven_planes_give_the_same_ct(to_ct: Translator, straight, tmp_path: Path) -> None:
    """Thin slices at the base and thick ones above."""
    affine, shape = affine_of((0, 1, 2), (-1, -1, 1), (2.5, 2.5, 2.5))
    voxels = sample(affine, shape)
    planes = [*range(14), *range(14, shape[2], 3)]
    examinations.dicom_planes(tmp_path / "mr", voxels, affine, planes)
    to_ct.translate(tmp_path / "mr", tmp_path / "ct")
    reference = sitk.GetArrayFromImage(straight((2.5, 2.5, 2.5)))
    for file in (tmp_path / "ct").iterdir():
        plane = pydicom.dcmread(file)
        number = round((float(plane.ImagePositionPatient[2]) - affine[2, 3]) / 2.5)
        inside = voxels[:, :, number].T > 300
        if not inside.any():
            continue
        assert np.abs(plane.pixel_array[inside] - reference[number][inside]).mean() < ALIKE[1]
