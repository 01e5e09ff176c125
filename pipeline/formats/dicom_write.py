"""Translations as DICOM: a new series of CT or MR images in the source's study and geometry (DICOM PS3.3 A.3 CT, A.4 MR, A.8.1 SC).

Each instance says that it is derived, from which instance, by which model, that it is synthetic and not for diagnosis; nothing is burned
into the pixels. Only what places the image in patient, study and space is taken from the source's header; everything else stays behind.
Unique identifiers are made from the source's and the model's digest: the same translation twice gives the same instances.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from pipeline.atomic import new_file, new_folder
from pipeline.errors import UserError
from pipeline.formats.dicom_header import find_burned_in, functional_group, load, nothing_quoted
from pipeline.formats.dicom_stacks import Frame
from pipeline.formats.synthetic import WARNING, Label, Synthetic
from pipeline.formats.volume import Volume

MR_LEVELS = 4095  # stored value of 1.0

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize",
    "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
)  # fmt: skip
_IN_SPACE = ("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition")
_EMPTY_IF_MISSING = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip


def check_target(volume: Volume, source: Path, target: Path) -> None:
    """Raises UserError where a series would be written over something."""
    if _is_single(volume, source):
        return
    if source.is_dir() and target.is_file():
        raise UserError(f"{target}: a file, but a DICOM series needs a folder; name another")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: not an empty folder; a series of {len(volume.origin)} DICOM files needs one")


def _is_single(volume: Volume, source: Path) -> bool:
    """Whether a translation becomes one file, not a folder of files."""
    return len(volume.origin) == 1 and not source.is_dir()


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write one image for each slice of `volume`: a file for a single picture, else a new folder of files; gives the path written.

    CT in Hounsfield units becomes CT images, grey values in 0..1 MR images of 12 bits.
    """
    frames: list[Frame] = volume.origin
    identity = _identity(frames)
    images = synthetic.images()
    if _is_single(volume, source):
        with new_file(target) as beside:
            _instance(frames[0], images[0], synthetic, 1, identity).save_as(beside, enforce_file_format=True)
        return target
    with new_folder(target) as folder:
        for number, (frame, picture) in enumerate(zip(frames, images, strict=True), start=1):
            file = folder / f"{number:04d}.dcm"
            _instance(frame, picture, synthetic, number, identity).save_as(file, enforce_file_format=True)
    return target


@dataclass(frozen=True)
class Identity:
    """What all instances of the new series share: identifiers that the source has, or that follow from those it has."""

    study: str
    series: str
    frame_of_reference: str


def _identity(frames: list[Frame]) -> Identity:
    """Taken from the first frame: some writers give each slice a series, or no study at all."""
    source = load(frames[0].file, pixels=False)
    origin = str(source.get("SeriesInstanceUID") or source.get("SOPInstanceUID") or _digest(source))
    study = str(source.get("StudyInstanceUID") or "") or _uid(origin, "study")
    return Identity(study, origin, str(source.get("FrameOfReferenceUID") or "") or _uid(origin, "frame of reference"))


def _instance(frame: Frame, picture: NDArray[np.float32], by: Synthetic, number: int, identity: Identity) -> Dataset:
    source = load(frame.file, pixels=False)
    with nothing_quoted(frame.file):
        return _derived(source, frame, picture, by, number, identity)


def _derived(source: Dataset, frame: Frame, picture: NDArray[np.float32], by: Synthetic, number: int, identity: Identity) -> Dataset:
    instance = Dataset()
    for name in (*_PATIENT_AND_STUDY, *_IN_SPACE):
        if name in source:
            instance[name] = source[name]
    for name in _EMPTY_IF_MISSING:
        if name not in instance:
            setattr(instance, name, "")
    placed = _place(instance, source, frame.frame, identity)
    _series(instance, source, by, number, identity)
    _derivation(instance, source, frame, by.label)
    _kind(instance, by.unit, placed)
    _pixels(instance, picture, by)
    instance.SOPInstanceUID = _uid(identity.series, str(source.get("SOPInstanceUID") or ""), str(frame.frame), str(number), *_model(by))
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def _place(instance: Dataset, source: Dataset, frame: int, identity: Identity) -> bool:
    """Image plane (PS3.3 C.7.6.2) of the frame; False when the source does not say where it lies."""
    position = functional_group(source, frame, "PlanePositionSequence") or source
    orientation = functional_group(source, frame, "PlaneOrientationSequence") or source
    measures = functional_group(source, frame, "PixelMeasuresSequence") or source
    known = [(position, "ImagePositionPatient"), (orientation, "ImageOrientationPatient"), (measures, "PixelSpacing")]
    for group, name in known:
        if name in group:
            instance[name] = group[name]
    for name in ("SliceThickness", "SpacingBetweenSlices"):
        if name in measures:
            instance[name] = measures[name]
    complete = all(name in instance and instance[name].value for _, name in known)
    if complete:
        if "SliceThickness" not in instance:
            instance.SliceThickness = None
        instance.FrameOfReferenceUID = identity.frame_of_reference
    return complete


def _series(instance: Dataset, source: Dataset, by: Synthetic, number: int, identity: Identity) -> None:
    label, target = by.label, "CT" if by.unit == "hu" else "MR"
    instance.Modality = target
    instance.StudyInstanceUID = identity.study
    instance.SeriesInstanceUID = _uid(identity.series, target, *_model(by))
    instance.SeriesNumber = 9000 + _series_number(source) % 1000
    instance.SeriesDescription = f"{WARNING}: {target} {by.contrast} by {label}".replace("  ", " ")[:64]
    instance.BodyPartExamined = "HEAD"  # without it the standard asks for a laterality, which a head has not
    instance.InstanceNumber = number
    instance.PatientOrientation = ""
    instance.Manufacturer = "ctmr"
    instance.ManufacturerModelName = label.name
    instance.SoftwareVersions = f"{label} {label.digest[:32]}"[:64]
    if "PatientPosition" not in instance:
        instance.PatientPosition = ""


def _derivation(instance: Dataset, source: Dataset, frame: Frame, label: Label) -> None:
    """What it was made from and how (PS3.3 C.7.6.1.1.3 and C.12.4; codes of PS3.16 CID 7202, 7203)."""
    instance.DerivationDescription = f"Synthesised from {source.get('Modality', 'another image')} by a neural network, {label}"[:1024]
    instance.DerivationCodeSequence = [_code("113085", "DCM", "Spatial resampling"), _code("113091", "DCM", "Pixel by pixel computation")]
    instance.ImageComments = f"{WARNING}. A network's estimate; lesions may vanish, appear or change."
    instance.ContentQualification = "RESEARCH"
    instance.BurnedInAnnotation = "YES" if find_burned_in(source) else "NO"  # text within a head may show in what is made of it
    if "SOPInstanceUID" in source and "SOPClassUID" in source:
        origin = Dataset()
        origin.ReferencedSOPClassUID = source.SOPClassUID
        origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
        if int(source.get("NumberOfFrames") or 1) > 1:
            origin.ReferencedFrameNumber = frame.frame + 1
        origin.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
        instance.SourceImageSequence = [origin]
    if source.get("LossyImageCompression") == "01":
        instance.LossyImageCompression = "01"
        for name in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if name in source:
                instance[name] = source[name]


def _kind(instance: Dataset, unit: str, placed: bool) -> None:
    """SOP class, with the attributes that it asks for: CT or MR image where the place in the patient is known, else secondary capture."""
    if not placed:
        instance.SOPClassUID = SecondaryCaptureImageStorage
        instance.ImageType = ["DERIVED", "SECONDARY"]
        instance.ConversionType = "WSD"
        for name in (*_IN_SPACE, "ContentQualification"):
            if name in instance:
                del instance[name]
    elif unit == "hu":
        instance.SOPClassUID = CTImageStorage
        instance.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        instance.KVP = None
        instance.AcquisitionNumber = None
    else:
        instance.SOPClassUID = MRImageStorage
        instance.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        instance.ScanningSequence = "RM"  # research mode: no sequence of a scanner made it
        instance.SequenceVariant = "NONE"
        instance.ScanOptions = ""
        instance.MRAcquisitionType = ""
        instance.RepetitionTime = instance.EchoTime = instance.EchoTrainLength = None


def _pixels(instance: Dataset, picture: NDArray[np.float32], by: Synthetic) -> None:
    instance.SamplesPerPixel = 1
    instance.PhotometricInterpretation = "MONOCHROME2"
    instance.Rows, instance.Columns = picture.shape
    instance.BitsAllocated = 16
    if by.unit == "hu":
        values: NDArray[Any] = np.rint(picture).astype("<i2")
        instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 16, 15, 1
        instance.RescaleIntercept, instance.RescaleSlope, instance.RescaleType = 0, 1, "HU"
        instance.WindowCenter, instance.WindowWidth = by.window
    else:
        values = np.rint(np.clip(picture, 0, 1) * MR_LEVELS).astype("<u2")
        instance.BitsStored, instance.HighBit, instance.PixelRepresentation = 12, 11, 0
        instance.WindowCenter, instance.WindowWidth = (MR_LEVELS + 1) / 2, MR_LEVELS + 1
    instance.PixelData = np.ascontiguousarray(values).tobytes()
    instance["PixelData"].VR = "OW"


def _series_number(source: Dataset) -> int:
    """The source's series number, 0 where it is none (A3, say)."""
    try:
        return int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        return 0


def _uid(*parts: str) -> str:
    """A unique identifier that depends on `parts` alone."""
    return str(generate_uid(entropy_srcs=["ctmr", *parts]))


def _model(by: Synthetic) -> tuple[str, str]:
    return by.label.digest, by.contrast


def _digest(source: Dataset) -> str:
    return hashlib.sha256(source.to_json(suppress_invalid_tags=True).encode()).hexdigest()


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
