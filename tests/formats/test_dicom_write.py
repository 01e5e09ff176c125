"""Synthetic series whatever identifiers the source has; each instance is one of its own, in one series of one study."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK

from pipeline.formats import table
from pipeline.formats.synthetic import Label, Synthetic
from tests.formats.dicom_files import write

PICTURE = np.arange(12, dtype=np.int16).reshape(3, 4) * 50
LABEL = Label("ct-to-mr", "3", "abcdef")


def translated(folder: Path) -> list[pydicom.Dataset]:
    """The series in `folder`, written as MR; in the order of its places."""
    volume = table.read_volume(folder, "ct")
    synthetic = Synthetic(np.clip(volume.voxels / 600, 0, 1), "grey", LABEL, "t1", (40, 80))
    out = table.write(volume, synthetic, folder, folder.parent / "out")
    return [pydicom.dcmread(file) for file in sorted(out.iterdir())]


UIDS = {
    "as they should be": {},
    "one instance uid for all": {"SOPInstanceUID": "1.2.3"},
    "no study": {"StudyInstanceUID": None},
    "no series": {"SeriesInstanceUID": None},
    "no study and no series": {"StudyInstanceUID": None, "SeriesInstanceUID": None},
    "series number of letters": {},
}


@pytest.mark.parametrize("kind", UIDS)
def test_instances_differ_and_share_series_and_study(kind: str, tmp_path: Path) -> None:
    for index in range(4):
        file = write(tmp_path / f"in/{index}.dcm", PICTURE + index, 5.0 * index, SeriesNumber=7, **UIDS[kind])
        if kind == "series number of letters":
            content = file.read_bytes()
            assert content.count(b"IS\x02\x007 ") == 1
            file.write_bytes(content.replace(b"IS\x02\x007 ", b"IS\x02\x00A3"))
    instances = translated(tmp_path / "in")
    assert len({instance.SOPInstanceUID for instance in instances}) == 4
    assert len({instance.SeriesInstanceUID for instance in instances}) == 1
    assert len({instance.StudyInstanceUID for instance in instances}) == 1
    assert [float(instance.ImagePositionPatient[2]) for instance in instances] == [0, 5, 10, 15]
    assert {int(instance.SeriesNumber) for instance in instances} == {9000 if "letters" in kind else 9007}


def test_a_series_uid_for_each_slice_becomes_one_series(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / f"in/{index}.dcm", PICTURE, 5.0 * index, SeriesInstanceUID=f"1.2.{index}")
    assert len({instance.SeriesInstanceUID for instance in translated(tmp_path / "in")}) == 1


def test_the_same_series_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for index in range(2):
        write(tmp_path / f"in/{index}.dcm", PICTURE, 5.0 * index)
    first = [instance.SOPInstanceUID for instance in translated(tmp_path / "in")]
    assert not [file.unlink() for file in (tmp_path / "out").iterdir() if file.suffix != ".dcm"]
    (tmp_path / "out").rename(tmp_path / "before")
    assert [instance.SOPInstanceUID for instance in translated(tmp_path / "in")] == first


@pytest.mark.parametrize("cosines", [[0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], [0.8, 0.6, 0, -0.6, 0.8, 0], [1, 0, 0, 0, 0.95, -0.31]])
def test_any_plane_keeps_its_place(cosines: list[float], tmp_path: Path) -> None:
    """Sagittal, coronal, turned, tilted: ITK sees source and result in the same place."""
    normal = np.cross(cosines[:3], cosines[3:])
    for index in range(5):
        place = (np.array([-20.0, 30, 10]) + 0.6 * index * normal).round(6).tolist()
        write(tmp_path / f"in/{index}.dcm", PICTURE + index, ImageOrientationPatient=cosines, ImagePositionPatient=place)
    volume = table.read_volume(tmp_path / "in", "ct")
    synthetic = Synthetic(volume.voxels, "hu", LABEL, "", (40, 80))
    out = table.write(volume, synthetic, tmp_path / "in", tmp_path / "out")
    nifti = table.write(volume, synthetic, tmp_path / "in", tmp_path / "out.nii") if cosines[5] != -0.31 else None
    before, after = _itk(tmp_path / "in"), _itk(out)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(after), SimpleITK.GetArrayFromImage(before))
    for what in ("GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(after, what)(), getattr(before, what)(), atol=1e-4)
    if nifti is not None:
        seen = SimpleITK.ReadImage(str(nifti))
        for index in ([0, 0, 0], [3, 2, 4]):
            place = before.TransformIndexToPhysicalPoint(index)
            value = seen[seen.TransformPhysicalPointToIndex(place)]
            assert value == before[index]


def _itk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.real
def test_a_real_study_gives_its_slices_and_says_what_was_set_aside(real_volumes: Path) -> None:
    volume = table.read_volume(real_volumes / "ct_phantom_study", "ct")
    assert volume.voxels.shape == (512, 512, 28)
    assert (volume.unit, volume.modality) == ("hu", "ct")
    said = " ".join(volume.warnings)
    assert "6 × a page for reading" in said
    assert "3 × a DICOMDIR" in said
    assert "1 × a localizer" in said


@pytest.mark.real
def test_a_real_sagittal_mprage_is_a_volume_with_axial_slices(real_volumes: Path) -> None:
    volume = table.read_volume(real_volumes / "mr_mprage_sagittal", "mr")
    assert volume.voxels.shape == (256, 256, 170)
    assert (volume.modality, volume.contrast, volume.warnings) == ("mr", "t1", [])
    itk = _itk(next((real_volumes / "mr_mprage_sagittal").rglob("*.dcm")).parent)
    for index in ([0, 0, 0], [200, 100, 50], [255, 255, 169]):
        place = itk.TransformIndexToPhysicalPoint(index)
        found = np.linalg.solve(volume.affine, [-place[0], -place[1], place[2], 1])[:3]
        assert volume.voxels[tuple(np.rint(found).astype(int))] == pytest.approx(itk[index], rel=1e-3)
    assert len(volume.slices) == 256
    assert volume.slices[0].pixels.shape == (256, 170)


@pytest.mark.real
def test_a_real_tilted_head_with_uneven_slices_misses_none(real_volumes: Path) -> None:
    volume = table.read_volume(real_volumes / "ct_head_tilted", "ct")
    assert volume.warnings == []
    steps = np.diff(volume.offsets)
    assert steps.min() == pytest.approx(1.08, abs=0.01)
    assert np.median(steps[:13]) == pytest.approx(4.0, abs=0.01)
    assert np.median(steps[14:]) == pytest.approx(7.0, abs=0.01)
