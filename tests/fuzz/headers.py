"""Headers changed as a person, a converter or a disk would: units, identifiers, orientation, spacing, sizes, types, numbers with a comma.

Unlike changed bytes, these files keep their structure, so that they come further into the readers.
"""

import io
import random
import re
from collections.abc import Callable

import nibabel
import numpy as np
import pydicom
from pydicom.uid import generate_uid

NUMBERS = ("0", "-1", "1", "1024", "-1024", "1e9", "-1e9", "1e-9", "1,5", "nan", "inf", "", "A3", "0.5", "1e30", "99999999999")
PLACES = (0.0, 1.0, -1.0, 0.7071, 0.5, 1e9, -1e9, 1e-12, 2.0)
WORDS = (
    "CT",
    "MR",
    "OT",
    "US",
    "HU",
    "",
    "LOCALIZER",
    "DERIVED",
    "SECONDARY",
    "DOSE_INFO",
    "MONOCHROME1",
    "MONOCHROME2",
    "RGB",
    "YBR_FULL",
)


def change_dicom(chance: random.Random, content: bytes) -> bytes:
    """A DICOM file with one to four attributes changed, taken out or emptied."""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    numbers = ("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "SliceThickness", "SpacingBetweenSlices", "EchoTime")
    lists = {"PixelSpacing": 2, "ImageOrientationPatient": 6, "ImagePositionPatient": 3, "ImagerPixelSpacing": 2}
    words = ("Modality", "RescaleType", "ImageType", "PhotometricInterpretation", "SpecificCharacterSet", "PatientID", "SeriesNumber")
    counts = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PixelPaddingValue")
    integers = ("NumberOfFrames", "InstanceNumber")
    uids = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID")
    for _ in range(chance.choice((1, 1, 2, 4))):
        kind = chance.randrange(7)
        name = chance.choice((*numbers, *lists, *words, *counts, *integers, *uids))
        if kind == 0:
            if name in dataset:
                del dataset[name]
        elif kind == 1 or name in numbers:
            _set(dataset, chance.choice(numbers), chance.choice(NUMBERS))
        elif name in lists:
            _set(dataset, name, [chance.choice(PLACES) for _ in range(lists[name] + chance.choice((0, 0, 0, -1, 1)))])
        elif name in words:
            _set(dataset, name, chance.choice((*WORDS, *NUMBERS)))
        elif name in counts:
            _set(dataset, name, chance.choice((0, 1, 2, 3, 8, 12, 16, 32, 64, 255, 65535)))
        elif name in integers:
            _set(dataset, name, chance.choice(("0", "1", "2", "-1", "100000000", "A3", "")))
        else:
            _set(dataset, name, chance.choice(("", "1.2.3", generate_uid(entropy_srcs=[str(chance.random())]))))
    packed = io.BytesIO()
    dataset.save_as(packed)
    return packed.getvalue()


def _set(dataset: pydicom.Dataset, name: str, value: object) -> None:
    """Set an attribute as bytes on a disk would have it, whether or not the standard allows the value."""
    dataset.add_new(name, pydicom.datadict.dictionary_VR(name), value)


def change_nifti(chance: random.Random, content: bytes) -> bytes:
    """A NIfTI-1 file with one to four fields of its header changed."""
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(content), check=False)
    data = header.structarr.copy()
    fields = ("dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter", "qform_code", "sform_code", "quatern_b",
              "qoffset_x", "srow_x", "srow_y", "srow_z", "magic", "xyzt_units", "intent_code", "slice_code")  # fmt: skip
    for _ in range(chance.choice((1, 1, 2, 4))):
        name = chance.choice(fields)
        kind = data[name].dtype
        if kind.kind == "S":
            data[name] = chance.choice((b"n+1", b"ni1", b"n+2", b"", b"xxx"))
        else:
            values = (
                (0, 1, -1, 2, 4, 8, 16, 64, 512, 32767, -32768) if kind.kind == "i" else (0, 1, -1, 0.5, 1e9, -1e9, 1e-9, np.nan, np.inf)
            )
            if data[name].ndim:
                data[name][chance.randrange(data[name].size)] = chance.choice(values)
            else:
                data[name] = np.array(chance.choice(values)).astype(kind)
    return data.tobytes() + content[348:]


def change_text(chance: random.Random, content: bytes) -> bytes:
    """A MetaImage or NRRD file with one to four values of its header changed."""
    end = content.find(b"\n\n") if content.startswith(b"NRRD") else content.find(b"\n", content.find(b"ElementDataFile"))
    lines = content[:end].split(b"\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        found = list(re.finditer(rb"[-+\w.]+", lines[place]))
        if not found:
            continue
        word = chance.choice(found)
        value = chance.choice((*NUMBERS, "MET_FLOAT", "LOCAL", "../a.raw", "LIST", "True", "raw", "gzip", "space", "(1,0,0)")).encode()
        lines[place] = lines[place][: word.start()] + value + lines[place][word.end() :]
    return b"\n".join(lines) + content[end:]


CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    ".dcm": change_dicom, ".nii": change_nifti, ".mha": change_text, ".nrrd": change_text,
}  # fmt: skip
