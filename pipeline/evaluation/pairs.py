"""Models scored on registered pairs that no graph has seen: prepared as the models' own slices were, in a store that lasts as long."""

import csv
import re
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipeline import params, paths, sources
from pipeline.dataset import manifest, prepare_slices
from pipeline.errors import UserError
from pipeline.evaluation import job
from pipeline.models.bundle import load_preprocess
from pipeline.sources.layout import stem

if TYPE_CHECKING:
    import pandas as pd


def evaluate_pairs(
    source: Path, target: Path, of: params.Params, models: Path = paths.MODELS, patient: str | None = None, contrast: str | None = None
) -> dict[str, Any]:
    """Score the generators in `models` on the pairs in `source`, write metrics, table, pictures and report.html to `target`.

    `source`: folder or archive with ct/ and mr/, and pairs.csv, or the same file names in both. `patient`: regular expression whose
    first group, found in a file's name, is the patient, where pairs.csv does not say it. `contrast`: that of all MR; else what pairs.csv
    says, else the estimate, on which the slices of a patient vote. Gives what metrics.json holds. Raises UserError on bad input, no pairs.
    """
    with tempfile.TemporaryDirectory(prefix="ctmr-pairs-") as scratch:
        raw, slices = Path(scratch, "raw"), Path(scratch, "slices")
        sources.download(of.data.model_copy(update={"source": "folder", "folder": str(source)}), raw)
        if not (raw / paths.PAIRS_CSV.name).is_file():
            _pair_by_name(raw, source)
        slices.mkdir()
        index, _ = prepare_slices.fill(slices, _paired(manifest.build(raw), source, patient, contrast), load_preprocess(models), raw)
        prepare_slices.write_index(slices, index)
        return job.write(of.evaluate, target, slices, models, f"registered pairs from {source.name}")


def _pair_by_name(raw: Path, source: Path) -> None:
    """Write pairs.csv with the files that have the same name, suffix aside, below ct/ and mr/."""
    names = {}
    for modality in paths.MODALITIES:
        files = sorted(file for file in (raw / modality).rglob("*") if file.is_file())
        names[modality] = {stem(PurePosixPath(file.relative_to(raw / modality))): file for file in files}
    both = sorted(set(names["ct"]) & set(names["mr"]))
    if not both:
        raise UserError(f"{source}: no pairs.csv, and no file name that is in ct and mr alike; name the pairs in pairs.csv (ct,mr)")
    with (raw / paths.PAIRS_CSV.name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["ct", "mr", "contrast", "group"])
        writer.writerows([*(names[modality][name].relative_to(raw).as_posix() for modality in paths.MODALITIES), "", ""] for name in both)


def _paired(table: "pd.DataFrame", source: Path, patient: str | None, contrast: str | None) -> "pd.DataFrame":
    """The manifest's lines of pairs with a head in both pictures, as test slices with group and contrast."""
    heads = table[(table["pair"] >= 0) & (table["head_share"] > 0)]
    whole = heads.groupby("pair")["modality"].nunique()
    kept = heads[heads["pair"].isin(whole.index[whole == 2])].reset_index(drop=True)
    if kept.empty:
        raise UserError(f"{source}: no pair with a head in both pictures")
    if left_out := int((table["pair"].max() + 1) - kept["pair"].nunique()):
        print(f"{left_out} pairs left out: no head found, or a picture that cannot be read")
    kept["group"] = kept["group_key"].where(kept["group_key"] != "", [_patient(path, patient) for path in kept["path"]])
    kept["group"] = kept["group"].where(kept["group"] != "", kept["pair"].map("pair {}".format))
    kept["split"] = "test"
    mr = kept["modality"] == "mr"
    if contrast:
        kept.loc[mr, "contrast"] = contrast
    else:
        votes = kept[mr].groupby(["group", "contrast"])["contrast_confidence"].sum().reset_index().sort_values("contrast_confidence")
        said = mr & (kept["contrast_confidence"] == 1)
        elected = kept["group"].map(votes.drop_duplicates("group", keep="last").set_index("group")["contrast"])
        kept["contrast"] = kept["contrast"].where(~mr | said, elected)
    return kept


def _patient(path: str, pattern: str | None) -> str:
    found = re.search(pattern, Path(path).stem) if pattern else None
    return found.group(1) if found else ""
