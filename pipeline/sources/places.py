"""A file of a source in its place, and what words of paths stand for when they stand for no patient."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Folders that stand for other things than patients, with or without a number.
OTHER = re.compile(
    r"(images?|imgs?|slices?|scans?|series|stacks?|volumes?|dicom|dcm|nifti|nii|png|jpe?g|tiff?|raw|data|dataset|sets?|batch|part|fold|site|"
    r"centre|center|hospital|scanner|ses|session|visit|day|month|week|year|baseline|follow|fu|tp|timepoint|pre|post|preop|postop|before|after|"
    r"axial|brain|head|pelvis|anat|t1w?|t2w?|flair|pdw?|mprage|run|acq)[-_ ]?\w{0,4}|\d{1,3}mm|(19|20)\d\d([-_.]?\d\d){0,2}",
    re.IGNORECASE,
)
# Of these, folders around patients in which the same name may be another patient; elsewhere it is the same one.
_SITE = re.compile(r"(site|centre|center|hospital|clinic|scanner|cohort)[-_ ]?\w*", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """A file of the source with what its path says: folders above the modality, the path below it, patient and MR contrast ("" unknown).

    `target`: its place in data/raw. `begins`: whether only the beginning of its name tells the patient.
    """

    source: Path
    modality: str
    above: tuple[str, ...]
    below: tuple[str, ...]
    target: PurePosixPath
    patient: str = ""
    contrast: str = ""
    begins: bool = False


def folders_of(place: Place) -> tuple[str, ...]:
    """Folders as data/raw has them, those above the modality first, without the modality and the split."""
    count = len(place.above) + len(place.below) - 1
    return place.target.parts[len(place.target.parts) - 1 - count : -1]


def is_own(below: tuple[str, ...]) -> bool:
    """Whether a path below the modality is a file that is called after it: the folder that it lies in is its patient's."""
    return len(below) == 1 and below[0].split(".")[0].lower() in ("ct", "mr", "mri")


def key_of(folders: tuple[str, ...]) -> str:
    """The name of a patient by the path to the last of `folders`: the sites around it, and its own name."""
    *above, own = folders
    return "/".join((*(folder for folder in above if _SITE.fullmatch(folder)), own))
