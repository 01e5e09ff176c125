"""pairs.csv: which CT and which MR file show the same head, registered to each other.

Columns: ct and mr (paths below data/raw), contrast of the MR ("" unknown), group (the subject, "" unknown), and place: "test" for pairs
that a person listed, which are for testing only, "any" for pairs that the layout shows, which are used where their patient falls.
"""

import csv
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pipeline.domain import CONTRASTS, MODALITIES
from pipeline.errors import UserError
from pipeline.formats.table import image_of
from pipeline.sources.file_names import own_name
from pipeline.sources.layout import Layout, is_mask, read_lines, walk
from pipeline.sources.places import Place, is_own

COLUMNS = ("ct", "mr", "contrast", "group", "place")
NAME = "pairs.csv"
_VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".hdr")

Pair = dict[str, str]


def find(root: Path, layout: Layout, rename_group: Callable[[str], str] = str) -> list[Pair]:
    """The pairs of the tree `root`: those of its pairs.csv (the topmost counts), else volumes of one patient.

    Raises UserError naming the line of a missing column, unknown file, wrong modality, file named twice or unknown contrast.
    """
    tables = sorted((file for file in walk(root) if file.name.lower() == NAME), key=lambda file: (len(file.parts), file))
    return _read_foreign(tables[0], layout, rename_group) if tables else _of_patients(layout)


def of_images(pairs: list[Pair], folder: Path) -> list[Pair]:
    """`pairs` of files in `folder`, each by the file that stands for its image: a DICOM series may be named by any of its files."""
    return [pair | {side: image_of(folder / pair[side]).relative_to(folder).as_posix() for side in MODALITIES} for pair in pairs]


def write(pairs: list[Pair], folder: Path) -> None:
    """Write pairs.csv to `folder`; nothing without pairs."""
    if not pairs:
        return
    with (folder / NAME).open("w", newline="", encoding="utf-8") as output:
        writer = csv.DictWriter(output, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(pairs, key=lambda pair: (pair["ct"], pair["mr"])))


def read(folder: Path) -> list[Pair]:
    """The lines of pairs.csv in `folder`; none where there is no such file."""
    return [{"contrast": "", "group": "", "place": "test", **line} for line in read_lines(folder / NAME, ("ct", "mr"))]


def _read_foreign(table: Path, layout: Layout, rename_group: Callable[[str], str]) -> list[Pair]:
    """A user's table: columns ct and mr (paths relative to its own folder), optionally contrast and group."""
    targets = {place.source: place.target for place in layout.places}
    pairs: list[Pair] = []
    used: set[PurePosixPath] = set()
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = {"ct", "mr"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"{NAME}: no column {' and '.join(sorted(missing))}; expected ct,mr and optionally contrast,group")
            for number, line in enumerate(reader, start=2):
                pairs.append(_parse(line, f"{NAME} line {number}", table.parent, targets, used, rename_group))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{NAME}: not a comma-separated table in UTF-8: {error}") from None
    return pairs


def _parse(
    line: dict[str, str],
    where: str,
    folder: Path,
    targets: dict[Path, PurePosixPath],
    used: set[PurePosixPath],
    rename_group: Callable[[str], str],
) -> Pair:
    pair = {"contrast": (line.get("contrast") or "").strip().lower(), "group": rename_group((line.get("group") or "").strip())}
    if pair["contrast"] not in ("", *CONTRASTS):
        raise UserError(f"{where}: contrast {pair['contrast']!r} is not one of t1, t2, flair, pd or empty")
    for modality in MODALITIES:
        target = targets.get(folder / (line[modality] or "").strip())
        if target is None or target.parts[0] != modality:
            raise UserError(f"{where}: column {modality} names none of the {modality.upper()} images beside it")
        if target in used:
            raise UserError(f"{where}: its {modality.upper()} image is in an earlier line too")
        used.add(target)
        pair[modality] = target.as_posix()
    return {**pair, "place": "test"}


def _of_patients(layout: Layout) -> list[Pair]:
    """One CT and one MR volume of each patient who has one CT volume: the first of T1, T2, ... where there are several MR volumes.

    Files called just ct and mr come before others that lie beside them (`ct_def.mha`, say). Names that only begin alike make no pair.
    """
    patients: dict[str, dict[str, list[Place]]] = defaultdict(lambda: {modality: [] for modality in MODALITIES})
    for place in layout.places:
        if place.patient and place.source.name.lower().endswith(_VOLUMES) and not is_mask(place.source.name):
            patients[place.patient][place.modality].append(place)
    order = ["", *CONTRASTS]
    pairs = []
    for patient, sides in sorted(patients.items()):
        cts = [place for place in sides["ct"] if is_own(place.below)] or sides["ct"]
        mrs = [mr for mr in sides["mr"] if not (mr.begins or cts[0].begins) or own_name(mr) == own_name(cts[0]) != ""] if cts else []
        if len(cts) == 1 and mrs:
            mr = min(mrs, key=lambda place: (not is_own(place.below), order.index(place.contrast), place.target))
            ct = cts[0].target.as_posix()
            pairs.append({"ct": ct, "mr": mr.target.as_posix(), "contrast": mr.contrast, "group": patient, "place": "any"})
    return pairs
