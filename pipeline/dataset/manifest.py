"""The manifest: one row per slice with what its file says and what its pixels show; judged apart from it, in quality.py."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline import paths
from pipeline.dataset import quality
from pipeline.formats.slices import Slice, Unreadable
from pipeline.formats.table import files_of, is_part, read_slices
from pipeline.imaging import appearance, integrity, intensity, outline
from pipeline.imaging.outline import Picture
from pipeline.imaging.prepare import find_dim
from pipeline.parallel import in_parallel
from pipeline.sources import layout, pairs
from pipeline.sources.layout import stem

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
    position: float = float("nan")  # millimetres along the head, from foot to vertex; no number where unknown
    files: int = 1  # that `path` stands for: header and voxels, or those of a DICOM series
    faults: str = ""  # of the volume, in words of `integrity.Fault`: skull-stripped, defaced, ...
    below: bool = False  # below the teeth


def build(raw: Path, workers: int | None = None, meanwhile: Callable[[], object] | None = None) -> pd.DataFrame:
    """The manifest of every file below raw/ct and raw/mr, sorted by slice_id; memory does not grow with the number of pixels.

    `meanwhile` as for `in_parallel`.
    """
    files = [file for modality in paths.MODALITIES for file in sorted((raw / modality).rglob("*")) if file.is_file() and not is_part(file)]
    tasks = [(raw, files[i : i + FILES_PER_TASK]) for i in range(0, len(files), FILES_PER_TASK)]
    rows = [row for some in in_parallel(_measure_files, tasks, workers, meanwhile, name=_files) for row in some]
    table = pd.DataFrame([asdict(row) for row in sorted(rows, key=lambda row: row.slice_id)], columns=list(Row.__dataclass_fields__))
    listed = pairs.read(raw)
    table["pair"] = match_slices(table, listed)
    places = {path: pair["place"] for pair in listed for path in (pair["ct"], pair["mr"])}
    table["pair_place"] = [places[path] if pair >= 0 else "" for path, pair in zip(table["path"], table["pair"], strict=True)]
    said = layout.read_table(raw / paths.FILES_CSV.name)
    table["patient"] = _name_patients(table["path"], {path: patient for path, (patient, _) in said.items() if patient}, listed)
    contrasts = {path: contrast for path, (_, contrast) in said.items() if contrast}
    contrasts |= {pair["mr"]: pair["contrast"] for pair in listed if pair["contrast"]}
    told = table["path"].isin(list(contrasts)) & (table["contrast_confidence"] < 1)
    told |= table["path"].isin([pair["mr"] for pair in listed if pair["contrast"]])
    table.loc[told, "contrast"] = table.loc[told, "path"].map(contrasts)
    table.loc[told, "contrast_confidence"] = 1.0
    return table


def _name_patients(files: Iterable[str], told: Mapping[str, str], listed: list[pairs.Pair]) -> list[str]:
    """The patient of each file: the group of pairs.csv, which counts for all files that paths call alike, else what its path has `told`."""
    groups = {path: f"pairs:{pair['group']}" for pair in listed if pair["group"] for path in (pair["ct"], pair["mr"])}
    named = {told[path]: group for path, group in groups.items() if path in told}
    return [groups.get(path) or named.get(told.get(path, ""), told.get(path, "")) for path in files]


def match_slices(table: pd.DataFrame, listed: list[pairs.Pair]) -> list[int]:
    """The number of the pair of each row, -1 for none: a picture with a picture, a volume's slices with the nearest of its partner.

    Slices match where their places along the head differ by at most half the wider of the two distances between slices; without
    places, in the order of the files where both have as many.
    """
    numbers = [-1] * len(table)
    rows = {str(path): list(lines) for path, lines in table.groupby("path", sort=False).groups.items()}
    places = table["position"].to_numpy()
    count = 0
    for pair in listed:
        ct, mr = rows.get(pair["ct"], []), rows.get(pair["mr"], [])
        for one, other in _nearest(ct, mr, places):
            numbers[one] = numbers[other] = count
            count += 1
    return numbers


def _nearest(ct: list[int], mr: list[int], places: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Rows that belong together, each in one couple at most, from foot to head."""
    if len(ct) == len(mr) == 1:
        return [(ct[0], mr[0])]
    here, there = places[ct], places[mr]
    if np.isnan(here).any() or np.isnan(there).any():
        return list(zip(ct, mr, strict=True)) if len(ct) == len(mr) else []
    steps = [float(np.median(np.diff(np.sort(some)))) for some in (here, there) if len(some) > 1]
    couples: list[tuple[int, int]] = []
    left = set(range(len(mr)))
    for row in np.argsort(here, kind="stable"):
        nearest = min(left, key=lambda other: (abs(there[other] - here[row]), other), default=None)
        if nearest is not None and abs(there[nearest] - here[row]) <= max(steps) / 2 + 1e-6:
            couples.append((ct[row], mr[nearest]))
            left.discard(nearest)
    return couples


def measure(slice_: Slice, modality: str) -> dict[str, Any]:
    """What the manifest says of a slice's pixels, as fields of Row."""
    picture = intensity.view(slice_.pixels, slice_.unit, modality)
    found = outline.find_outline(picture, modality, slice_.scale)
    mask = found.mask(picture.shape, slice_.scale) if found else np.zeros(picture.shape, bool)
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
        "border": appearance.edge_brightness(picture),
        "colour": slice_.colour,
        "position": float("nan") if slice_.position is None else slice_.position,
        "head_share": float(mask.mean()),
        "outline": found.points.ravel().tolist() if found else [],
    }
    if found is None:
        return facts
    in_pixels = outline.Outline(found.points / slice_.scale)
    described = appearance.describe(picture, in_pixels, modality)
    facts["ct_likelihood"] = appearance.ct_likelihood(described)
    if modality == "mr":
        facts["marks"] = count_marks(picture, in_pixels)
        said = slice_.contrast
        facts["contrast"], facts["contrast_confidence"] = (said, 1.0) if said else appearance.mr_contrast(described)
    return facts


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


def _files(task: tuple[Path, list[Path]]) -> str:
    raw, files = task
    return ", ".join(str(file.relative_to(raw)) for file in files)


def _measure_files(task: tuple[Path, list[Path]]) -> list[Row]:
    raw, files = task
    return [row for file in files for row in _measure_file(raw, file)]


def _measure_file(raw: Path, file: Path) -> list[Row]:
    relative = PurePosixPath(file.relative_to(raw).as_posix())
    modality = relative.parts[0]
    split = relative.parts[1] if len(relative.parts) > 2 and relative.parts[1] in ("train", "test") else ""
    row = Row(stem(relative), modality, str(relative), 0, split, files=len(files_of(file)))
    try:
        slices = read_slices(file, modality)
    except Unreadable as error:
        complaint = f"{error.reason}: {error}".replace(f"{file}: ", "").replace(f"{raw}/", "")
        return [replace(row, complaint=complaint)]
    names = [row.slice_id] if len(slices) == 1 else [f"{row.slice_id}#{one.frame:03d}" for one in slices]
    rows = [replace(row, slice_id=name, frame=one.frame, **measure(one, modality)) for name, one in zip(names, slices, strict=True)]
    dim = find_dim(slices, modality)
    rows = [replace(row, head_share=0.0, outline=[]) if noise else row for row, noise in zip(rows, dim, strict=True)]
    outlines = {number: outline.Outline(np.reshape(row.outline, (-1, 2))) for number, row in enumerate(rows) if row.outline}
    impossible = integrity.doubt_size(slices, outlines)
    if impossible:
        return [replace(row, complaint=f"unreadable: {impossible}") for row in rows]
    burned_in = next((one.burned_in for one in slices if one.burned_in), "")
    if burned_in:  # reports have pictures of what they read, so it must not count as read
        return [replace(row, complaint=f"{quality.BURNED_IN}: {burned_in}; text there may name a patient") for row in rows]
    findings = integrity.examine(slices, outlines, modality)
    faults = ", ".join(findings.faults)
    return [replace(row, faults=faults, below=number in findings.below) for number, row in enumerate(rows)]
