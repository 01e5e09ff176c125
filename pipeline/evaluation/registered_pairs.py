"""`ctmr evaluate`: models scored on registered pairs that no graph has seen, and the scores as tables on the terminal.

The pairs are prepared as the models' own slices were, in a store that lasts as long.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from pipeline import paths
from pipeline.dataset import manifest, prepare_slices, slice_arrays
from pipeline.domain import CONTRASTS, MODALITIES, SCORES, Direction, Modality
from pipeline.errors import UserError
from pipeline.evaluation import report
from pipeline.evaluation.results import COMPARED, Evaluation, score_cell, score_label
from pipeline.evaluation.volume_pairs import ERROR, Translate, find_volume_pairs, score_volume_pairs
from pipeline.evaluation.volume_scores import VOLUME_SCORES
from pipeline.models.folder import load_preprocess
from pipeline.params import Params, Preprocess
from pipeline.sources import pairs as foreign_pairs
from pipeline.sources.layout import stem
from pipeline.sources.table import download
from pipeline.tables import print_table

ALONE = "pair "  # begins the group of a pair whose patient nothing says


def evaluate_pairs(
    source: Path,
    target: Path,
    params: Params,
    translations: Mapping[str, Translate],
    models: Path = paths.MODELS,
    patient: str | None = None,
    contrast: str | None = None,
) -> Evaluation:
    """Score the generators in `models` on the pairs in `source`, write metrics, table, pictures and report.html to `target`.

    `source`: folder or archive with ct/ and mr/, and pairs.csv, or the same file names in both. `patient`: regular expression whose
    first group, found in a file's name, is the patient, where pairs.csv does not say it. `contrast`: that of all MR; else what pairs.csv
    says, else the estimate, on which the slices of a patient vote. Volumes are scored whole too, by `translations`.
    Raises UserError on bad options or input, or where there are no pairs.
    """
    report.check_folder(target)
    preprocess = load_preprocess(models)
    with tempfile.TemporaryDirectory(prefix="ctmr-pairs-") as scratch:
        raw, slices = Path(scratch, "raw"), Path(scratch, "slices")
        index = store_pairs(source, raw, slices, params, preprocess, patient, contrast)
        whole = find_volume_pairs(raw, index)
        volumes = score_volume_pairs(whole, translations) if whole else None
        box = paths.BOX if paths.has_box() else None
        title = f"registered pairs from {source.name}"
        if index["group"].str.startswith(ALONE).any():
            print("patients are not known, so each pair counts as one: see --patient")
            title += ". Patients are not known: each pair counts as one, so intervals and verdicts are too sure where a patient has several"
        return report.evaluate(params.evaluate, target, slices, models, title, volumes, box)


def print_scores(evaluation: Evaluation) -> None:
    """Two tables a direction with truth, the model beside the baselines: the errors with the verdicts, and the other scores."""
    metrics = evaluation.metrics
    for name, test in metrics["test"].items():
        direction = Direction(name)
        print(f"{direction.arrow}: {test['slices']} slices of {test['groups']} groups, inside the head, 95 % intervals")
        if COMPARED[0] not in test:
            print_table(("score", "model"), [(SCORES[score].label, score_cell(test, score)) for score in ("cycle_mae", "cycle_ssim")])
            continue
        methods: list[tuple[str, Mapping[str, float], str]] = [("model", test, "")]
        for method, scores in metrics["baselines"].items():
            verdict = metrics["difference"][method][direction].get("mae_verdict", "")
            methods.append((method, scores[direction], verdict))
        first, *others = COMPARED
        rows = [(method, score_cell(scores, first), verdict) for method, scores, verdict in methods]
        print_table(("method", score_label(first), "the model is"), rows)
        cells = [(method, *(score_cell(scores, score) for score in others)) for method, scores, _ in methods]
        print_table(("method", *map(score_label, others)), cells)
    for name, volumes in metrics.get("volumes", {}).items():
        print_volumes(Direction(name), volumes)


def print_volumes(direction: Direction, volumes: Mapping[str, Any]) -> None:
    """The model and trivial methods side by side, a row a score, and what a person should know of single pairs."""
    test, baselines = volumes["test"], volumes["baselines"]
    print(f"{direction.arrow}: {test['pairs']} volumes of {test['groups']} groups, in the body, 95 % intervals")
    rows = [(score_label(name), *(score_cell(scores, name) for scores in (test, *baselines.values()))) for name in VOLUME_SCORES]
    rows.append(("the model is", "", *(volumes["difference"].get(name, {}).get(f"{ERROR}_verdict", "–") for name in baselines)))
    print_table(("score", "model", *baselines), rows)
    for pair, warning in volumes["warnings"].items():
        print(f"warning: {pair}: {warning}")


def store_pairs(
    source: Path, raw: Path, slices: Path, params: Params, preprocess: Preprocess, patient: str | None = None, contrast: str | None = None
) -> pd.DataFrame:
    """Bring the pairs in `source` to the folder `raw`, and prepare them as test slices in the new store `slices`, whose index it gives.

    Arguments and errors as for `evaluate_pairs`.
    """
    _check_options(patient, contrast)
    download(params.data.model_copy(update={"source": "folder", "folder": str(source)}), raw)
    if all(pair["place"] == "any" for pair in foreign_pairs.read(raw)):  # found by the layout, if any
        _pair_by_name(raw, source)
    slices.mkdir()
    pairs = _select_pairs(manifest.build(raw), source, patient, contrast)
    slice_arrays.write_preprocessing(slices, preprocess)
    index, _ = prepare_slices.fill(slices, pairs, preprocess, raw)
    return index


def _check_options(patient: str | None, contrast: str | None) -> None:
    if contrast and contrast not in CONTRASTS:
        raise UserError(f"--contrast {contrast}: expected one of {', '.join(CONTRASTS)}")
    if patient:
        try:
            groups = re.compile(patient).groups
        except re.error as error:
            raise UserError(f"--patient {patient}: no regular expression ({error})") from None
        if groups != 1:
            raise UserError(f"--patient {patient}: needs one group in parentheses, the patient")


def _pair_by_name(raw: Path, source: Path) -> None:
    """Add to pairs.csv the files that have the same name, suffix aside, below ct/ and mr/, and are in no pair yet."""
    listed = foreign_pairs.read(raw)
    taken = {pair[side] for pair in listed for side in MODALITIES}
    names = {}
    for modality in MODALITIES:
        files = sorted(file for file in (raw / modality).rglob("*") if file.is_file() and file.relative_to(raw).as_posix() not in taken)
        names[modality] = {stem(PurePosixPath(file.relative_to(raw / modality))): file for file in files}
    both = sorted(set(names[Modality.CT]) & set(names[Modality.MR]))
    if not both and not listed:
        raise UserError(f"{source}: no pairs.csv, and no file name that is in ct and mr alike; name the pairs in pairs.csv (ct,mr)")
    added = [{str(side): names[side][name].relative_to(raw).as_posix() for side in MODALITIES} for name in both]
    foreign_pairs.write(listed + [{"contrast": "", "group": "", "place": "test", **pair} for pair in added], raw)


def _select_pairs(table: pd.DataFrame, source: Path, patient: str | None, contrast: str | None) -> pd.DataFrame:
    """The manifest's lines of pairs with a head in both pictures, as test slices with group and contrast."""
    for path, complaint in table.loc[table["complaint"] != "", ["path", "complaint"]].drop_duplicates().itertuples(index=False):
        print(f"left out: {path}: {complaint}")
    heads = table[(table["pair"] >= 0) & (table["head_share"] > 0) & (table["complaint"] == "")]
    modalities = heads.groupby("pair")["modality"].nunique()
    pairs = heads[heads["pair"].isin(modalities.index[modalities == 2])].reset_index(drop=True)
    if pairs.empty:
        raise UserError(f"{source}: no pair with a head in both pictures")
    lost = table[(table["pair"] >= 0) & ~table["pair"].isin(pairs["pair"])]
    for path in lost.loc[(lost["complaint"] == "") & ~(lost["head_share"] > 0), "path"].drop_duplicates():
        print(f"left out: {path}: no head found in it")
    if lost["pair"].nunique():
        print(f"{lost['pair'].nunique()} pairs left out, for the files above")
    told = [
        _patient(path, patient) or of_path or key
        for path, of_path, key in zip(pairs["path"], pairs["patient"], pairs["group_key"], strict=True)
    ]
    pairs["group"] = pairs.assign(group=told).replace({"group": ""}, None).groupby("pair")["group"].transform("first")
    pairs["group"] = pairs["group"].fillna(pairs["pair"].map(f"{ALONE}{{}}".format))
    pairs["split"] = "test"
    mr = pairs["modality"] == Modality.MR
    if contrast:
        pairs.loc[mr, "contrast"] = contrast
    else:
        votes = pairs[mr].groupby(["group", "contrast"])["contrast_confidence"].sum().reset_index().sort_values("contrast_confidence")
        known = mr & (pairs["contrast_confidence"] == 1)
        elected = pairs["group"].map(votes.drop_duplicates("group", keep="last").set_index("group")["contrast"])
        pairs["contrast"] = pairs["contrast"].where(~mr | known, elected)
    return pairs


def _patient(path: str, pattern: str | None) -> str:
    match = re.search(pattern, Path(path).stem) if pattern else None
    return match.group(1) if match else ""
