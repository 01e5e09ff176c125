"""Translations as DICOM: a new series of CT or MR images in the source's study and geometry (DICOM PS3.3 A.3 CT, A.4 MR, A.8.1 SC).

Each instance says that it is derived, from which instance, by which model, that it is synthetic and not for diagnosis; nothing is burned
into the pixels. Only what places the image in patient, study and space is taken from the source's header; everything else stays behind.
Unique identifiers are made from the source's and the model's digest: the same translation twice gives the same instances.
"""

import hashlib
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
from pipeline.formats import dicom_pixels, nifti, pictures
from pipeline.formats.dicom_plane import functional_group
from pipeline.formats.dicom_series import Reference
from pipeline.formats.synthetic import WARNING, Label, Synthetic
from pipeline.formats.volume import Volume

_OTHER_ENDINGS = (*pictures.ENDINGS, *nifti.ENDINGS)
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


def write(volume: Volume, synthetic: Synthetic, source: Path, target: Path) -> Path:
    """Write one image for each slice of `volume`: a file for a single picture, else a new folder of files; gives the path written.

    CT in Hounsfield units becomes CT images, grey values in 0..1 MR images of 12 bits.
    Raises UserError when `target` is a folder that holds something, or has the name of another format.
    """
    references: list[Reference] = volume.origin
    stored = volume.stored(synthetic.images)
    if source.is_dir() and target.is_file():
        raise UserError(f"{target}: a file, but a DICOM series needs a folder; name another")
    if not source.is_dir() and target.is_dir():
        target = target / source.name
    elif target.name.lower().endswith(_OTHER_ENDINGS):
        raise UserError(f"{target}: DICOM is translated to DICOM; name a {'folder' if source.is_dir() else '.dcm file'}")
    if len(references) == 1 and not source.is_dir():
        with new_file(target) as beside:
            _instance(references[0], stored[0], synthetic, 1).save_as(beside, enforce_file_format=True)
        return target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: not an empty folder; a series of {len(references)} DICOM files needs one")
    with new_folder(target) as folder:
        for number, (reference, picture) in enumerate(zip(references, stored, strict=True), start=1):
            file = folder / f"{number:04d}.dcm"
            _instance(reference, picture, synthetic, number).save_as(file, enforce_file_format=True)
    return target


def _instance(reference: Reference, picture: NDArray[np.float32], by: Synthetic, number: int) -> Dataset:
    source = dicom_pixels.load(reference.file, pixels=False)
    made = Dataset()
    for name in (*_PATIENT_AND_STUDY, *_IN_SPACE):
        if name in source:
            made[name] = source[name]
    for name in _EMPTY_IF_MISSING:
        if name not in made:
            setattr(made, name, "")
    placed = _place(made, source, reference.frame)
    _series(made, source, by, number)
    _derivation(made, source, reference, by.label)
    _kind(made, by.unit, placed)
    _pixels(made, picture, by)
    made.SOPInstanceUID = _uid(source, "SOPInstanceUID", str(reference.frame), by)
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def _place(made: Dataset, source: Dataset, frame: int) -> bool:
    """Image plane (PS3.3 C.7.6.2) of the frame; False when the source does not say where it lies."""
    position = functional_group(source, frame, "PlanePositionSequence") or source
    orientation = functional_group(source, frame, "PlaneOrientationSequence") or source
    measures = functional_group(source, frame, "PixelMeasuresSequence") or source
    known = [(position, "ImagePositionPatient"), (orientation, "ImageOrientationPatient"), (measures, "PixelSpacing")]
    for group, name in known:
        if name in group:
            made[name] = group[name]
    for name in ("SliceThickness", "SpacingBetweenSlices"):
        if name in measures:
            made[name] = measures[name]
    complete = all(name in made and made[name].value for _, name in known)
    if complete:
        if "SliceThickness" not in made:
            made.SliceThickness = None
        if "FrameOfReferenceUID" not in made:
            made.FrameOfReferenceUID = _uid(source, "SeriesInstanceUID", "frame of reference")
    return complete


def _series(made: Dataset, source: Dataset, by: Synthetic, number: int) -> None:
    label, target = by.label, "CT" if by.unit == "hu" else "MR"
    made.Modality = target
    if "StudyInstanceUID" not in made:
        made.StudyInstanceUID = _uid(source, "SOPInstanceUID", "study")
    made.SeriesInstanceUID = _uid(source, "SeriesInstanceUID", target, by)
    made.SeriesNumber = 9000 + int(source.get("SeriesNumber") or 0) % 1000
    made.SeriesDescription = f"{WARNING}: {target} {by.contrast} by {label}".replace("  ", " ")[:64]
    made.BodyPartExamined = "HEAD"  # without it the standard asks for a laterality, which a head has not
    made.InstanceNumber = number
    made.PatientOrientation = ""
    made.Manufacturer = "ctmr"
    made.ManufacturerModelName = label.name
    made.SoftwareVersions = f"{label} {label.digest[:32]}"[:64]
    if "PatientPosition" not in made:
        made.PatientPosition = ""


def _derivation(made: Dataset, source: Dataset, reference: Reference, label: Label) -> None:
    """What it was made from and how (PS3.3 C.7.6.1.1.3 and C.12.4; codes of PS3.16 CID 7202, 7203)."""
    made.DerivationDescription = f"Synthesised from {source.get('Modality', 'another image')} by a neural network, {label}"[:1024]
    made.DerivationCodeSequence = [_code("113085", "DCM", "Spatial resampling"), _code("113091", "DCM", "Pixel by pixel computation")]
    made.ImageComments = f"{WARNING}. A network's estimate; lesions may vanish, appear or change."
    made.ContentQualification = "RESEARCH"
    made.BurnedInAnnotation = "NO"
    if "SOPInstanceUID" in source and "SOPClassUID" in source:
        origin = Dataset()
        origin.ReferencedSOPClassUID = source.SOPClassUID
        origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
        if int(source.get("NumberOfFrames") or 1) > 1:
            origin.ReferencedFrameNumber = reference.frame + 1
        origin.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
        made.SourceImageSequence = [origin]
    if source.get("LossyImageCompression") == "01":
        made.LossyImageCompression = "01"
        for name in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if name in source:
                made[name] = source[name]


def _kind(made: Dataset, unit: str, placed: bool) -> None:
    """SOP class, with the attributes that it asks for: CT or MR image where the place in the patient is known, else secondary capture."""
    if not placed:
        made.SOPClassUID = SecondaryCaptureImageStorage
        made.ImageType = ["DERIVED", "SECONDARY"]
        made.ConversionType = "WSD"
        for name in (*_IN_SPACE, "ContentQualification"):
            if name in made:
                del made[name]
    elif unit == "hu":
        made.SOPClassUID = CTImageStorage
        made.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        made.KVP = None
        made.AcquisitionNumber = None
    else:
        made.SOPClassUID = MRImageStorage
        made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
        made.ScanningSequence = "RM"  # research mode: no sequence of a scanner made it
        made.SequenceVariant = "NONE"
        made.ScanOptions = ""
        made.MRAcquisitionType = ""
        made.RepetitionTime = made.EchoTime = made.EchoTrainLength = None


def _pixels(made: Dataset, picture: NDArray[np.float32], by: Synthetic) -> None:
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.Rows, made.Columns = picture.shape
    made.BitsAllocated = 16
    if by.unit == "hu":
        values: NDArray[Any] = np.rint(picture).astype("<i2")
        made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 15, 1
        made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "HU"
        made.WindowCenter, made.WindowWidth = by.window
    else:
        values = np.rint(np.clip(picture, 0, 1) * MR_LEVELS).astype("<u2")
        made.BitsStored, made.HighBit, made.PixelRepresentation = 12, 11, 0
        made.WindowCenter, made.WindowWidth = (MR_LEVELS + 1) / 2, MR_LEVELS + 1
    made.PixelData = np.ascontiguousarray(values).tobytes()
    made["PixelData"].VR = "OW"


def _uid(source: Dataset, name: str, what: str, by: Synthetic | None = None) -> str:
    """A unique identifier that depends on the source's `name`, on `what` and on the model and contrast alone."""
    origin = source.get(name) or source.get("SOPInstanceUID") or hashlib.sha256(source.to_json().encode()).hexdigest()
    return str(generate_uid(entropy_srcs=["ctmr", str(origin), what, *([by.label.digest, by.contrast] if by else [])]))


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
