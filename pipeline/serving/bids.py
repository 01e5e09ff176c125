"""Translations of a BIDS data set as a BIDS derivative (bids-specification 1.10, "Derivatives"): file names, JSON sidecars, description."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.domain import Modality
from pipeline.errors import UserError
from pipeline.folders import walk
from pipeline.formats.synthetic import WARNING, Label

VERSION = "1.10.0"  # of BIDS
DESCRIPTION = "dataset_description.json"
SUFFIXES = {Modality.MR: ("T1w", "T2w", "FLAIR", "PDw"), Modality.CT: ("ct",)}
FOLDERS = {Modality.MR: "anat", Modality.CT: "ct"}
MADE = {"t1": "T1w", "t2": "T2w", "flair": "FLAIR", "pd": "PDw"}  # suffix of a synthetic MR by the contrast that was asked for
_NAME = re.compile(r"(?P<entities>sub-[0-9a-zA-Z]+(_[0-9a-z]+-[0-9a-zA-Z]+)*)_(?P<suffix>[0-9a-zA-Z]+)\.nii(\.gz)?")


@dataclass(frozen=True)
class Name:
    """A file's name in BIDS: entities such as sub-01_ses-2_acq-mprage, and the suffix such as T1w."""

    entities: str
    suffix: str

    @property
    def folder(self) -> Path:
        """Where a subject's files lie in a data set: sub-01, or sub-01/ses-2."""
        return Path(*(entity for entity in self.entities.split("_") if entity.startswith(("sub-", "ses-"))))

    def derived(self, target: Modality, contrast: str | None) -> Path:
        """Where the translation of such a file lies in a derivative."""
        suffix = "ct" if target is Modality.CT else MADE.get(contrast or "", "T1w")
        return self.folder / FOLDERS[target] / f"{self.entities}_desc-syntheticFrom{self.suffix.capitalize()}_{suffix}.nii.gz"


def parse_name(path: Path) -> Name | None:
    """The name of a NIfTI file in BIDS, None for another."""
    match = _NAME.fullmatch(path.name)
    return Name(match["entities"], match["suffix"]) if match else None


def is_dataset(folder: Path) -> bool:
    """Whether a folder is a BIDS data set: it says so, or holds folders of subjects with files that are named so."""
    return folder.is_dir() and ((folder / DESCRIPTION).is_file() or any(name for _, name in _images(folder)))


def list_tasks(source: Path, target: Path, modality: Modality, to: Modality, contrast: str | None) -> list[tuple[Path, Path]]:
    """(from, to) for each image of `modality` in the data set `source`, into the derivative `target`.

    Raises UserError where there is none.
    """
    tasks = [(file, target / name.derived(to, contrast)) for file, name in _images(source) if name and name.suffix in SUFFIXES[modality]]
    if not tasks:
        raise UserError(f"{source}: a BIDS data set without {modality.upper()}; expected files that end in {', '.join(SUFFIXES[modality])}")
    return tasks


def list_misnamed(source: Path) -> list[str]:
    """A line for each volume of a data set that does not count, since its name or place is not what BIDS says."""
    return [f"{file}: not named or placed as BIDS says" for file, name in _images(source) if name is None]


def write_description(source: Path, target: Path, label: Label) -> None:
    """dataset_description.json of a derivative of the data set `source`, unless `target` has one."""
    if not (target / DESCRIPTION).exists():
        content = {
            "Name": f"Synthetic images by ctmr, {label}",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [_generator(label)],
            "SourceDatasets": [{"URL": source.resolve().as_uri()}],
            "DatasetLinks": {"raw": source.resolve().as_uri()},
        }
        atomic.write_json(target / DESCRIPTION, content)


def write_sidecar(output: Path, source: Path, dataset: Path | None, label: Label, facts: dict[str, Any]) -> Path:
    """The JSON sidecar of `output`, which was made from `source`, in the data set `dataset` where it lies in one; gives its path."""
    origin = f"bids:raw:{source.relative_to(dataset).as_posix()}" if dataset else source.name
    file = output.with_name(re.sub(r"\.nii(\.gz)?$", "", output.name) + ".json")
    content = {
        "Description": f"{WARNING}. A network's estimate; lesions may vanish, appear or change.",
        "Sources": [origin],
        "SpatialReference": "orig",
        "SkullStripped": False,
        "GeneratedBy": [_generator(label)],
        **facts,
    }
    atomic.write_json(file, content)
    return file


def _images(folder: Path) -> Iterator[tuple[Path, Name | None]]:
    """NIfTI files in the folders of subjects, with their names, None where BIDS has none such there; derivatives beside do not count."""
    for subject in sorted(folder.glob("sub-*")):
        for file in sorted(walk(subject)) if subject.is_dir() else ():
            if file.name.lower().endswith((".nii", ".nii.gz")):
                name = parse_name(file)
                yield file, name if name and file.parent == folder / name.folder / file.parent.name else None


def _generator(label: Label) -> dict[str, str]:
    return {"Name": "ctmr", "Version": version("ctmr"), "Description": f"{label}, weights {label.digest[:12]}"}
