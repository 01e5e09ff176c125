"""The MR contrast (t1, t2, flair, pd) that a DICOM header states, from its acquisition times; no text of the header leaves this file.

Rules of thumb for the brain at 1.5 and 3 T, as in radiology textbooks (McRobbie et al., MRI from Picture to Proton, ch. 3):
spin echo with short TR and TE weighs T1, long TR and short TE proton density, long both T2; a long inversion time that nulls fluid makes
FLAIR, an inversion time around 900 ms T1.
"""

import re

from pydicom.dataset import Dataset

from pipeline.formats.dicom_header import functional_group

_STATED = {"T1": "t1", "T2": "t2", "FLUID_ATTENUATED": "flair", "PROTON_DENSITY": "pd"}  # Acquisition Contrast, PS3.3 C.8.13.3.1.2
_NAMES = ((r"flair|dark.?fluid", "flair"), (r"t2", "t2"), (r"t1|mp.?rage|bravo|spgr", "t1"), (r"pd|proton", "pd"))
_OTHER = r"dwi|diff|adc|trace|b1000|swi|t2.?star|t2\*|asl|perf|dsc|dce|tof|angio|mra|mip|map|bold|field|dti|flow"


def stated_contrast(dataset: Dataset, frame: int = 0) -> str:
    """ "t1", "t2", "flair", "pd", or "" where the header does not say, or says something else (diffusion, angiography, T2*)."""
    contrast = functional_group(dataset, frame, "MRImageFrameTypeSequence") or dataset
    stated = _STATED.get(str(contrast.get("AcquisitionContrast", "")))
    if stated:
        return stated
    kinds = {str(kind).upper() for kind in _list(dataset.get("ScanningSequence"))}
    variants = {str(kind).upper() for kind in _list(dataset.get("SequenceVariant"))}
    if "EP" in kinds or str(dataset.get("AngioFlag", "N")).upper() == "Y":
        return ""
    timing = functional_group(dataset, frame, "MRTimingAndRelatedParametersSequence") or dataset
    echo = functional_group(dataset, frame, "MREchoSequence") or dataset
    tr = _number(timing, "RepetitionTime")
    te = _number(echo, "EffectiveEchoTime") or _number(dataset, "EchoTime")
    modifier = functional_group(dataset, frame, "MRModifierSequence") or dataset
    ti = _number(modifier, "InversionTimes") or _number(modifier, "InversionTime") or _number(dataset, "InversionTime")
    if "GR" in kinds and "MP" not in variants and not ti:
        flip = _number(timing, "FlipAngle")
        return "t1" if te and flip and te < 10 and flip >= 15 and (tr or 0) < 500 else _named(dataset)
    if tr and te:
        if ti and ti >= 1500:
            return "flair" if te >= 60 else ""
        if ti and 300 <= ti <= 1200 and te < 40:
            return "t1"
        if not ti and tr <= 1000 and te <= 30:
            return "t1"
        if not ti and tr >= 1800:
            return "t2" if te >= 70 else "pd" if te <= 40 else ""
    return _named(dataset)


def _named(dataset: Dataset) -> str:
    """The contrast that exactly one of the usual words in the series' names stands for."""
    text = " ".join(str(dataset.get(name, "")) for name in ("SeriesDescription", "ProtocolName", "SequenceName")).lower()
    if re.search(_OTHER, text):
        return ""
    for pattern, contrast in _NAMES:
        if re.search(rf"(?<![a-z0-9])({pattern})(?![0-9])", text):
            return contrast
    return ""


def _number(dataset: Dataset, name: str) -> float | None:
    try:
        return float(_list(dataset.get(name))[0])  # type: ignore[arg-type]
    except (TypeError, ValueError, IndexError):
        return None


def _list(value: object) -> list[object]:
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [] if value is None else [value]
