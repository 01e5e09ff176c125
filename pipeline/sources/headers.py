"""What a file's header says in DICOM's terms: that of DICOM itself, or what other formats keep of it.

dcm2niix writes `PatientName` into JSON beside NIfTI; ITK and 3D Slicer write `0010|0010` or `DICOM_0010_0010` into NRRD and MetaImage.
"""

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.formats import itk
from pipeline.formats.silence import silent

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LONGEST = 2**18  # bytes of a text that are looked at
_ENTRY = re.compile(r"^(?:DICOM_)?(\w{4}[|_,]\w{4}|[A-Z]\w+)[ \t]*:?=[ \t]*(.+?)[ \t\r]*$", re.MULTILINE)


def read_header(file: Path) -> "Dataset | None":
    """The data set without its pixels; None for a file that has none, whatever its name, or whose first element is damaged."""
    with file.open("rb") as opened:
        start = opened.read(132)
        known = start[128:132] == b"DICM" or start[:2] in (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")  # in either byte order
        entries = {} if known else _read_text(start + opened.read(LONGEST), file.suffix.lower() == ".json")
    if not known and not entries:
        return None
    import pydicom

    with silent("pydicom"), contextlib.suppress(Exception):  # damaged files are judged later, by their reader
        return pydicom.dcmread(file, stop_before_pixels=True, force=True, defer_size=2**16) if known else _as_dataset(entries)
    return None


def _read_text(content: bytes, is_json: bool) -> dict[str, str]:
    """The entries of a JSON file, or of a header of NRRD or MetaImage, by DICOM's names or numbers."""
    if is_json:
        with contextlib.suppress(ValueError):
            told = json.loads(content)
            return {str(name): value for name, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}
    if not itk.recognises(content):
        return {}
    text = re.split(rb"\r?\n\r?\n|ElementDataFile", content, maxsplit=1)[0]
    return dict(_ENTRY.findall(text.decode("utf-8", "replace")))


def _as_dataset(entries: dict[str, str]) -> "Dataset":
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for name, value in entries.items():
        number = re.fullmatch(r"([0-9a-fA-F]{4})[|_,]([0-9a-fA-F]{4})", name)
        tag = int("".join(number.groups()), 16) if number else tag_for_keyword(name)
        with contextlib.suppress(KeyError, ValueError, TypeError):  # no such tag, or no value of its kind: nobody's name
            if tag is not None and dictionary_VR(tag) != "SQ":
                dataset.add_new(tag, dictionary_VR(tag), value)
    return dataset
