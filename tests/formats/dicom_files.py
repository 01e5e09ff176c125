"""DICOM files that tests write: CT and MR slices whose header names a patient, in any plane, order and syntax."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from pipeline.formats import table
from pipeline.formats.slices import Slice

AXIAL = [1.0, 0, 0, 0, 1, 0]
SERIES = generate_uid(entropy_srcs=["series of the tests"])
STUDY = generate_uid(entropy_srcs=["study of the tests"])
STORED = np.arange(12, dtype=np.int16).reshape(3, 4) * 100
SHIPPED = ("CT_small.dcm", "MR_small.dcm")  # of pydicom


def shipped(name: str) -> Path:
    return Path(str(get_testdata_file(name)))


def only(path: Path) -> Slice:
    (one,) = table.read_slices(path)
    return one


def write(path: Path, stored: np.ndarray[Any, Any], position: float = 0.0, **attributes: Any) -> Path:
    """A CT slice (or what `attributes` make of it) with the stored values `stored` (rows, columns), 16 bits, at `position` mm."""
    dataset = header(attributes.pop("Modality", "CT"))
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient, dataset.PixelSpacing = AXIAL, [-100.0, -120.0, position], [0.5, 0.75]
    for name, value in attributes.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    if stored.ndim == 3:
        dataset.NumberOfFrames = len(stored)
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def header(modality: str) -> FileDataset:
    """What every file has; CT with rescaling to Hounsfield units."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.Modality = meta.MediaStorageSOPClassUID, modality
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = SERIES, STUDY
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Zyxwvut^Quentin", "ID-987654", "19371231"
    dataset.InstitutionName, dataset.PatientComments = "Klinikum Musterstadt", "allergic to Qwertzium"
    if modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    return dataset


def write_enhanced(path: Path, stored: np.ndarray[Any, Any], positions: list[float]) -> Path:
    """An enhanced MR object (frames, rows, columns) with frame i at positions[i] mm, each with a slope of its own (i + 1)."""
    nowhere = {"ImageOrientationPatient": None, "ImagePositionPatient": None, "PixelSpacing": None}
    write(path, stored, Modality="MR", SOPClassUID=EnhancedMRImageStorage, **nowhere)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.AcquisitionContrast = "FLUID_ATTENUATED"
    dataset.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=AXIAL)])
    shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=[0.5, 0.75])])
    frames = []
    for index, position in enumerate(positions):
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([_item(ImagePositionPatient=[-100.0, -120.0, position])])
        frame.PixelValueTransformationSequence = Sequence([_item(RescaleSlope=index + 1, RescaleIntercept=0, RescaleType="US")])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.save_as(path)
    return path


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return item
