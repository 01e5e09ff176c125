"""One head stored in every orientation, tilted, coarse and fine: the same synthetic CT in millimetres, as SimpleITK sees the files.

The head is a formula, so that each grid samples it exactly; the generator is a fixed map from MR to HU, so that all that differs is what
lies before and after a network: axes, resampling, framing, the head's outline.
"""

import shutil
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from scipy import ndimage

from pipeline.formats import table
from pipeline.formats.slices import NotAxial
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
    sizes = (3.0, 3.5, 7.0)  # mm to the right, front and head
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


def tilted(degrees: float, spacing: tuple[float, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Axial planes of a tilted gantry: each lies farther to the front than the one below."""
    affine, shape = affine_of((0, 1, 2), (-1, -1, 1), spacing)
    affine[1, 2] += spacing[2] * np.tan(np.deg2rad(degrees))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


GEOMETRIES = {
    "oblique coronal": affine_of((0, 2, 1), (-1, -1, 1), (3.0, 3.0, 3.0), turned(-20, 1)),
    "tilted gantry": tilted(18.5, (3.0, 3.0, 6.0)),
    "tilted gantry, thin": tilted(18.5, (3.0, 3.0, 3.0)),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_every_format_gives_the_same_ct_on_its_own_voxels(to_ct: Translator, tmp_path: Path, geometry: str) -> None:
    affine, shape = GEOMETRIES[geometry]
    voxels = sample(affine, shape)
    sources = {name: examinations.volume_file(tmp_path / f"mr.{name}", voxels, affine) for name in ("nii.gz", "mha", "nrrd", "mgz")}
    planes = examinations.dicom_planes(tmp_path / "dicom", voxels, affine)
    sources |= {"dicom": tmp_path / "dicom", "enhanced": examinations.enhanced_planes(tmp_path / "enhanced.dcm", planes)}
    expected = None
    for name, source in sources.items():
        target = tmp_path / ("ct" if source.is_dir() or source.suffix == ".dcm" else f"ct.{name}")
        to_ct.translate(source, target)
        before, result = table.read_volume(source, "mr"), table.read_volume(target, "ct", "hu")
        np.testing.assert_allclose(result.affine, before.affine, atol=1e-4)
        # DICOM counts planes upwards, to the back or to the left.
        upwards = np.array_equal(np.sign(np.diag(np.linalg.inv(affine)[:3, :3] @ result.affine[:3, :3])), [1, 1, 1])
        hounsfield = result.voxels if upwards else result.voxels[:, :, ::-1]
        expected = hounsfield if expected is None else expected
        assert (np.abs(hounsfield - expected) > SAME).mean() < 1e-4, name  # on the surface, rounding of an affine decides
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    where = depth(*(affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:])).reshape(shape)
    assert set(np.unique(expected[where > 1.2])) == {-1000}
    assert np.abs(expected[where < 0.7] - SOFT).mean() < 100


@pytest.mark.parametrize("axes", [(1, 2, 0), (0, 2, 1)], ids=["sagittal", "coronal"])
def test_a_lost_plane_moves_nothing_and_many_are_one_line(to_ct: Translator, tmp_path: Path, axes: tuple[int, ...]) -> None:
    affine, shape = affine_of(axes, (-1, -1, 1), (3.0, 3.0, 3.0))
    voxels = sample(affine, shape)
    results = {}
    for name, lost in (("whole", ()), ("one", (15,)), ("many", (15, 16, 17))):
        planes = [k for k in range(shape[2]) if k not in lost]
        examinations.dicom_planes(tmp_path / name, voxels, affine, planes)
        if name == "many":
            with pytest.raises(NotAxial, match=r"slices with a gap of 12 mm; axial slices are made of steps of at most 3 mm"):
                to_ct.translate(tmp_path / name, tmp_path / "ct")
            continue
        summary = to_ct.translate(tmp_path / name, tmp_path / f"{name}-ct")
        datasets = [pydicom.dcmread(file) for file in sorted((tmp_path / f"{name}-ct").iterdir())]
        results[name] = {tuple(dataset.ImagePositionPatient): dataset.pixel_array for dataset in datasets}
        assert any("1 slices are missing" in warning for warning in summary.warnings) == (name == "one")
    assert set(results["one"]) < set(results["whole"])
    apart = [np.abs(results["one"][place].astype(float) - results["whole"][place]).mean() for place in results["one"]]
    assert max(apart) < ALIKE[1]
    assert np.mean(apart) < 4


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
