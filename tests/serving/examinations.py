"""Heads as files that a hospital or a researcher would bring: DICOM series, enhanced DICOM, NIfTI volumes, pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

SPACING = (1.8, 2.0)  # mm between rows, between columns
DISTANCE = 5.0  # mm between slices
CORNER = (-120.0, -110.0, -40.0)  # mm, centre of the first voxel of the lowest slice


def dicom_series(folder: Path, slices: NDArray[np.float32], modality: str) -> list[Path]:
    """A classic axial series of `slices` (N, H, W), foot to head: Hounsfield units for CT, 0..1 for MR. File order is not slice order."""
    folder.mkdir(parents=True)
    study, series, frame_of_reference = (generate_uid(entropy_srcs=["test", str(folder), name]) for name in ("study", "series", "frame"))
    files = []
    for number, picture in enumerate(slices):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
        one.SOPInstanceUID = generate_uid(entropy_srcs=["test", str(folder), str(number)])
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Doe^Jane", "P1", "19700101", "F"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame_of_reference
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = "20240101", "101500", "1", "", ""
        one.Modality, one.SeriesNumber, one.InstanceNumber = modality, 3, number + 1
        one.PatientPosition, one.PositionReferenceIndicator = "HFS", ""
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        one.ImagePositionPatient = [CORNER[0], CORNER[1], CORNER[2] + number * DISTANCE]
        one.PixelSpacing, one.SliceThickness = list(SPACING), DISTANCE
        one.Rows, one.Columns = picture.shape
        one.SamplesPerPixel, one.PhotometricInterpretation, one.BitsAllocated = 1, "MONOCHROME2", 16
        if modality == "CT":
            one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 15, 1
            one.RescaleSlope, one.RescaleIntercept = 1, -1024
            stored = np.rint(picture + 1024).astype("<i2")
        else:
            one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 0
            stored = np.rint(picture * 1500).astype("<u2")
        one.PixelData = stored.tobytes()
        one["PixelData"].VR = "OW"
        files.append(folder / f"IM{(number * 7) % len(slices):03d}.dcm")
        one.save_as(files[-1], enforce_file_format=True)
    return files


def dicom_planes(folder: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64], planes: Sequence[int] | None = None) -> list[Path]:
    """An MR series of the planes across the third axis of `voxels` (I, J, K), in any orientation; `affine` as nibabel counts.

    `planes`: only these. Columns run along the first axis, rows along the second.
    """
    folder.mkdir(parents=True)
    lps = np.diag([-1.0, -1.0, 1.0])
    steps = lps @ affine[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    files = []
    for number, k in enumerate(range(voxels.shape[2]) if planes is None else planes):
        plane = _mr_instance(folder, number)
        plane.ImageOrientationPatient = [round(float(part), 6) for part in (*steps[:, 0] / spacing[0], *steps[:, 1] / spacing[1])]
        plane.ImagePositionPatient = [round(float(part), 4) for part in lps @ affine[:3, 3] + k * steps[:, 2]]
        plane.PixelSpacing, plane.SliceThickness = [float(spacing[1]), float(spacing[0])], float(spacing[2])
        plane.Rows, plane.Columns = voxels.shape[1], voxels.shape[0]
        plane.BitsStored, plane.HighBit, plane.PixelRepresentation = 12, 11, 0
        plane.PixelData = np.ascontiguousarray(voxels[:, :, k].T).astype("<u2").tobytes()
        plane["PixelData"].VR = "OW"
        files.append(folder / f"{number:04d}.dcm")
        plane.save_as(files[-1], enforce_file_format=True)
    return files


def volume_file(file: Path, voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> Path:
    """`voxels` in the format that the name says (.nii.gz, .mgz, or one of ITK's); `affine` as nibabel counts, sheared or not."""
    if file.name.endswith((".nii.gz", ".mgz")):
        kind = nibabel.MGHImage if file.suffix == ".mgz" else nibabel.Nifti1Image
        nibabel.save(kind(voxels, affine), file)
        return file
    steps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    spacing = np.linalg.norm(steps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((steps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(steps[:, 3].tolist())
    SimpleITK.WriteImage(image, str(file))
    return file


def enhanced_planes(file: Path, planes: Sequence[Path]) -> Path:
    """One enhanced MR file with the pictures of the single files `planes`, each with its place; other facts are those of the first."""
    datasets = [pydicom.dcmread(plane) for plane in planes]
    whole = datasets[0]
    shared = Dataset()
    shared.PlaneOrientationSequence = [_item(whole, "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_item(whole, "PixelSpacing", "SliceThickness")]
    whole.PerFrameFunctionalGroupsSequence = []
    for dataset in datasets:
        frame = Dataset()
        frame.PlanePositionSequence = [_item(dataset, "ImagePositionPatient")]
        whole.PerFrameFunctionalGroupsSequence.append(frame)
    whole.SharedFunctionalGroupsSequence = [shared]
    for name in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness", "ImagePositionPatient"):
        del whole[name]
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    whole.NumberOfFrames = len(datasets)
    whole.PixelData = b"".join(pydicom.dcmread(plane).PixelData for plane in planes)
    whole.save_as(file, enforce_file_format=True)
    return file


def _item(source: Dataset, *names: str) -> Dataset:
    item = Dataset()
    for name in names:
        item[name] = source[name]
    return item


def _mr_instance(folder: Path, number: int) -> Dataset:
    """An MR image of the one series of `folder`, without place and pixels."""
    plane = Dataset()
    plane.file_meta = FileMetaDataset()
    plane.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plane.SOPClassUID = plane.file_meta.MediaStorageSOPClassUID = MRImageStorage
    plane.SOPInstanceUID = generate_uid(entropy_srcs=["test", str(folder), str(number)])
    plane.file_meta.MediaStorageSOPInstanceUID = plane.SOPInstanceUID
    plane.StudyInstanceUID, plane.SeriesInstanceUID, plane.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=["test", str(folder), name]) for name in ("study", "series", "frame")
    )
    plane.PatientID, plane.Modality, plane.InstanceNumber = folder.parent.name or "P1", "MR", number + 1
    plane.SamplesPerPixel, plane.PhotometricInterpretation, plane.BitsAllocated = 1, "MONOCHROME2", 16
    return plane


def nifti(file: Path, slices: NDArray[np.float32], axes: str = "RAS") -> Any:
    """A volume of `slices` (N, H, W), foot to head, stored with voxel axes `axes` such as LPS; gives the nibabel image."""
    turned = slices[:, ::-1, ::-1].transpose(2, 1, 0)  # to the right, to the front, up
    affine = np.diag([SPACING[1], SPACING[0], DISTANCE, 1.0])
    affine[:3, 3] = CORNER
    image = nibabel.Nifti1Image(turned.astype(np.float32), affine)
    image = image.as_reoriented(nibabel.orientations.axcodes2ornt(axes, (("L", "R"), ("P", "A"), ("I", "S"))))
    nibabel.save(image, file)
    return image


def png(file: Path, picture: NDArray[np.float32]) -> Path:
    """A grey picture (H, W) of 0..1."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(picture * 255).astype(np.uint8)).save(file)
    return file


def heads(positions: Sequence[float] = (0.5, 0.6, 0.7), size: int = 128) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(CT in Hounsfield units, MR in 0..1), each (N, size, size), of one simulated head."""
    from pipeline.phantom import simulate_subject

    found = simulate_subject(5, list(positions), size=size, contrast="t1")
    return np.stack([one.ct for one in found]), np.stack([one.mr for one in found])
