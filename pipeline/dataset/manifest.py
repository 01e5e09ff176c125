"""The manifest: one row per slice with what its file says and what its pixels show; judged apart from it, in quality.py."""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage

from pipeline import paths
from pipeline.formats.slices import Slice, Unreadable
from pipeline.formats.table import read_slices
from pipeline.imaging import appearance, intensity, outline
from pipeline.imaging.outline import Picture
from pipeline.parallel import in_parallel
from pipeline.sources.layout import stem

if TYPE_CHECKING:
    import pandas as pd

FILES_PER_TASK = 8
MARK = (2e-5, 1e-3)  # smallest and largest area of a letter or tick, share of the square of the picture's longer side
HASH_SIDE = 16  # 16 × 16 = 256 bits


@dataclass(frozen=True)
class Row:
    """One slice. Columns that judging fills (status, reason, pair) start empty."""

    slice_id: str
    modality: str
    path: str
    frame: int
    source_split: str
    height: int = 0
    width: int = 0
    unit: str = ""
    sha256: str = ""  # of shape and decoded pixels
    phash: str = ""  # 256 bits, 64 hexadecimal digits
    contrast: str = ""
    contrast_confidence: float = 0.0
    group_key: str = ""
    file_modality: str = ""  # what the file itself says it is
    brightness: float = 0.0  # mean of the picture as displayed, 0..1
    spread: float = 0.0  # standard deviation of it
    sharpness: float = 0.0  # standard deviation of the Laplacian inside the head
    saturated: float = 0.0  # share of the head's pixels at white
    border: float = 0.0  # median brightness near the picture's edges, 0..1
    marks: int = 0  # small bright things well outside the head: letters, ticks of a ruler
    colour: float = 0.0  # share of coloured pixels
    ct_likelihood: float = 0.5  # of being a CT, by its looks, 0..1; 0.5 without a head
    head_share: float = 0.0  # share of the picture that the head covers; 0: none found
    outline: list[float] = field(default_factory=list)  # corners of the head's outline, row and column in turn; empty: none found
    complaint: str = ""  # why the file could not be read


def build(raw: Path = paths.RAW, workers: int | None = None, meanwhile: Callable[[], object] | None = None) -> "pd.DataFrame":
    """The manifest of every file below raw/ct and raw/mr, sorted by slice_id; memory does not grow with the number of pixels.

    `meanwhile` as for `in_parallel`.
    """
    import pandas as pd

    files = [file for modality in paths.MODALITIES for file in sorted((raw / modality).rglob("*")) if file.is_file()]
    tasks = [(raw, files[i : i + FILES_PER_TASK]) for i in range(0, len(files), FILES_PER_TASK)]
    rows = [row for some in in_parallel(_measure_files, tasks, workers, meanwhile) for row in some]
    table = pd.DataFrame([asdict(row) for row in sorted(rows, key=lambda row: row.slice_id)], columns=list(Row.__dataclass_fields__))
    pairs = read_pairs(raw)
    number = {path: i for i, pair in enumerate(pairs) for path in (pair["ct"], pair["mr"])}
    table["pair"] = [number.get(path, -1) for path in table["path"]]
    said = {pair["mr"]: pair["contrast"] for pair in pairs if pair["contrast"]}
    told = table["path"].isin(list(said))
    table.loc[told, "contrast"] = table.loc[told, "path"].map(said)
    table.loc[told, "contrast_confidence"] = 1.0
    # A subject named in pairs.csv ties its slices together where the files themselves say nothing.
    subjects = {path: f"pairs:{pair['group']}" for pair in pairs if pair["group"] for path in (pair["ct"], pair["mr"])}
    table["group_key"] = table["group_key"].mask(table["group_key"] == "", table["path"].map(subjects).fillna(""))
    return table


def read_pairs(raw: Path = paths.RAW) -> list[dict[str, str]]:
    """The lines of pairs.csv (ct, mr, contrast, group); none where there is no such file."""
    file = raw / paths.PAIRS_CSV.name
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def measure(slice_: Slice, modality: str) -> dict[str, Any]:
    """What the manifest says of a slice's pixels, as fields of Row."""
    picture = intensity.view(slice_.pixels, slice_.unit, modality)
    found = outline.find_outline(picture, modality)
    mask = found.mask(picture.shape) if found else np.zeros(picture.shape, bool)
    inside = picture[mask]
    facts: dict[str, Any] = {
        "height": picture.shape[0],
        "width": picture.shape[1],
        "unit": slice_.unit,
        "sha256": hashlib.sha256(repr(slice_.pixels.shape).encode() + np.ascontiguousarray(slice_.pixels).tobytes()).hexdigest(),
        "phash": perceptual_hash(picture),
        "group_key": slice_.group_key,
        "file_modality": slice_.modality,
        "brightness": float(picture.mean()),
        "spread": float(picture.std()),
        "sharpness": float(ndimage.laplace(picture)[mask].std()) if inside.size else 0.0,
        "saturated": float((inside >= 0.995).mean()) if inside.size else 0.0,
        "border": _border(picture),
        "colour": slice_.colour,
        "head_share": float(mask.mean()),
        "outline": found.points.ravel().tolist() if found else [],
    }
    if found is None:
        return facts
    # Looks are described with one way of finding the head, else CT and MR would differ by that alone.
    described = appearance.features(picture, found if modality == "mr" else outline.find_outline(picture, "mr") or found)
    facts["ct_likelihood"] = appearance.ct_likelihood(described)
    if modality == "mr":
        facts["marks"] = count_marks(picture, found)
        said = slice_.contrast
        facts["contrast"], facts["contrast_confidence"] = (said, 1.0) if said else appearance.mr_contrast(described)
    return facts


def _border(picture: Picture) -> float:
    """Median brightness near the picture's edges, but not at them, where white frames and rulers are."""
    first, last = (max(1, round(share * min(picture.shape))) for share in (0.03, 0.06))
    ring = np.zeros(picture.shape, bool)
    ring[first:-first, first:-first] = True
    ring[last:-last, last:-last] = False
    return float(np.median(picture[ring])) if ring.any() else 0.0


def count_marks(picture: Picture, found: outline.Outline) -> int:
    """Bright things of the size of letters or ticks outside a head's outline."""
    side = max(picture.shape)
    away = ~found.grown(0.02 * side).mask(picture.shape)
    bright = (picture > 0.4 * float(np.percentile(picture, 99.5))) & away
    pieces, count = ndimage.label(bright, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    return int(((sizes >= MARK[0] * side**2) & (sizes <= MARK[1] * side**2)).sum())


def perceptual_hash(picture: Picture) -> str:
    """imagehash's 16 × 16 pHash of a picture of 0..1, as 64 hexadecimal digits."""
    import imagehash

    return str(imagehash.phash(Image.fromarray(np.rint(picture * 255).astype(np.uint8)), hash_size=HASH_SIDE))


def _measure_files(task: tuple[Path, list[Path]]) -> list[Row]:
    raw, files = task
    return [row for file in files for row in _measure_file(raw, file)]


def _measure_file(raw: Path, file: Path) -> list[Row]:
    relative = PurePosixPath(file.relative_to(raw).as_posix())
    modality = relative.parts[0]
    split = relative.parts[1] if len(relative.parts) > 2 and relative.parts[1] in ("train", "test") else ""
    row = Row(stem(relative), modality, str(relative), 0, split)
    try:
        slices = read_slices(file, modality)
    except Unreadable as error:
        complaint = f"{error.reason}: {error}".replace(f"{file}: ", "")
        return [replace(row, complaint=complaint)]
    names = [row.slice_id] if len(slices) == 1 else [f"{row.slice_id}#{one.frame:03d}" for one in slices]
    return [replace(row, slice_id=name, frame=one.frame, **measure(one, modality)) for name, one in zip(names, slices, strict=True)]
