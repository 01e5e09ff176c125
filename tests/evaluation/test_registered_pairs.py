"""`ctmr evaluate PAIRS`: models scored on registered pairs from outside the graph."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline import cli, params, paths, phantom
from pipeline.atomic import write_json
from pipeline.evaluation import registered_pairs
from pipeline.evaluation.registered_pairs import evaluate_pairs, store_pairs
from pipeline.models.generator import build_generator, save_weights
from pipeline.serving.hounsfield import hounsfield_translations
from pipeline.sources import pairs
from tests.training import jobs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with slices, untrained models and six registered pairs of two patients."""
    folder = jobs.make(tmp_path_factory.mktemp("pairs") / "project")
    models = folder / "models"
    models.mkdir()
    torch.manual_seed(0)
    directions = ("ct_to_mr", "mr_to_ct")
    for direction in directions:
        save_weights(models / f"{direction}.safetensors", build_generator(jobs.PARAMS.model, direction))
    sections = {"model": jobs.PARAMS.model.model_dump(mode="json"), "preprocess": jobs.PARAMS.preprocess.model_dump(mode="json")}
    weights = {name: models / f"{name}.safetensors" for name in directions}
    files = {name: {"weights": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()} for name, file in weights.items()}
    write_json(models / "model.json", {**sections, "directions": files})
    for number in range(6):
        head = phantom.simulate(number // 3, size=128, contrast="t2")
        for modality, picture in zip(("ct", "mr"), phantom.render_pair(head, number), strict=True):
            file = folder / "mine" / modality.upper() / f"{number // 3}-{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(file)
    return folder


def evaluate(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0
) -> tuple[str, str]:
    """What the command prints, and what it says of errors, run in this process: a new one imports for seconds before it looks."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["ctmr", "evaluate", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == expect
    return capsys.readouterr()


def refuse(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says of `arguments` that it must refuse."""
    return evaluate(project, monkeypatch, capsys, *arguments, expect=2)[1]


def test_pairs_by_name_are_scored_by_patient(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    printed, _ = evaluate(project, monkeypatch, capsys, "mine", "--patient", r"^(\d+)-", "--contrast", "t2")
    report = project / "reports/pairs"
    figures = json.loads((report / "metrics.json").read_text())
    assert {test["slices"] for test in figures["test"].values()} == {6}
    assert {test["groups"] for test in figures["test"].values()} == {2}
    rows = pd.read_parquet(report / "per_slice.parquet")
    model = rows[rows["method"] == "model"]
    assert set(model["contrast"]) == {"t2"}
    assert figures["test"]["mr_to_ct"]["mae"] == pytest.approx(
        model[model["direction"] == "mr_to_ct"].groupby("group")["mae"].mean().mean()
    )
    assert "registered pairs from mine" in (report / "report.html").read_text()
    assert (report / "ct_to_mr.png").is_file()
    assert "MR → CT: 6 slices of 2 groups" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert "too few patients to tell" in printed


@pytest.mark.parametrize(
    ("place", "listed", "groups"),
    [
        ("patient_{n}/{modality}/{k}.png", False, {"patient_0", "patient_1"}),
        ("{modality}/{k}.png", True, {"pairs:0", "pairs:1"}),
        ("{modality}/{k}.png", False, {f"pair {k}" for k in range(6)}),
    ],
)
def test_a_group_is_a_patient_wherever_one_is_told(
    place: str, listed: bool, groups: set[str], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    for file in (project / "mine").rglob("*.png"):
        n, k = file.stem.split("-")
        there = tmp_path / "pairs" / place.format(n=n, k=k, modality=file.parent.name)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    if listed:
        lines = [f"CT/{k}.png,MR/{k}.png,t2,{k // 3}" for k in range(6)]
        (tmp_path / "pairs/pairs.csv").write_text("\n".join(["ct,mr,contrast,group", *lines]))
    index = store_pairs(tmp_path / "pairs", tmp_path / "raw", tmp_path / "slices", params.Params(), jobs.PARAMS.preprocess)
    assert set(index["group"]) == groups


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere: not found"),
        (("mine", "--patient", "("), "--patient (: no regular expression"),
        (("mine", "--patient", "x"), "needs one group in parentheses"),
        (("mine", "--contrast", "swi"), "--contrast swi: expected one of t1, t2, flair, pd"),
        (("mine", "--model", "mine"), "no usable model.json"),
    ],
)
def test_bad_input_is_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    printed = refuse(project, monkeypatch, capsys, *arguments, "--out", "reports/bad")
    assert said in printed
    assert len(printed.strip().splitlines()) == 1
    assert not (project / "reports/bad").exists()


@pytest.mark.parametrize("out", ["mine", "params.yaml"])
def test_the_report_replaces_nothing_but_an_earlier_one(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    printed = refuse(project, monkeypatch, capsys, "mine", "--out", out)
    assert f"{out}: " in printed
    assert {"CT", "MR"} <= {entry.name for entry in (project / "mine").iterdir()}
    assert (project / "params.yaml").is_file()


def test_without_training_slices_the_baselines_that_need_them_are_left_out(project: Path, tmp_path: Path, monkeypatch) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(project / name, tmp_path / name)
    monkeypatch.setattr(paths, "BOX", tmp_path / "none")
    monkeypatch.chdir(tmp_path)  # as in a fresh clone, where the model in the box is scored
    models = project / "models"
    evaluation = evaluate_pairs(project / "mine", tmp_path / "report", params.load(), hounsfield_translations(models), models, r"^(\d+)-")
    assert set(evaluation.metrics["baselines"]) == {"copy", "black"}
    assert list(hounsfield_translations(models)) == ["model"]
    assert "Copy the input" in (tmp_path / "report/report.html").read_text()
    assert "Mean picture" not in (tmp_path / "report/report.html").read_text()


def test_no_common_names(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(project / "mine", tmp_path / "other")
    for file in (tmp_path / "other/MR").iterdir():
        file.rename(file.with_name(f"x{file.name}"))
    printed = refuse(project, monkeypatch, capsys, str(tmp_path / "other"))
    assert "no pairs.csv, and no file name that is in ct and mr alike" in printed


def test_a_synthrad_folder_is_scored_volume_by_volume_in_its_masks(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        head = phantom.simulate_volume(number, (6.0, 6.0, 8.0), contrast="t1", healthy=True, extent=(0.0, 80.0))
        folder = project / f"synthrad/brain/1BA00{number}"
        folder.mkdir(parents=True)
        for name, voxels in (("ct", head.ct), ("mr", np.rint(1000 * head.mr).astype(np.int16)), ("mask", head.mask.astype(np.uint8))):
            nib.save(nib.Nifti1Image(voxels, head.affine), folder / f"{name}.nii.gz")
    printed, _ = evaluate(project, monkeypatch, capsys, "synthrad", "--out", "reports/synthrad")
    volumes = json.loads((project / "reports/synthrad/metrics.json").read_text())["volumes"]["mr_to_ct"]
    assert (volumes["test"]["pairs"], volumes["test"]["groups"]) == (2, 2)
    rows = pd.read_parquet(project / "reports/synthrad/per_volume.parquet")
    assert set(rows["method"]) == {"model", "mean_picture", "all_water", "water_and_bone"}
    truth = nib.load(project / "synthrad/brain/1BA001/ct.nii.gz").get_fdata()
    mask = nib.load(project / "synthrad/brain/1BA001/mask.nii.gz").get_fdata() > 0
    water = rows[(rows["method"] == "all_water") & rows["pair"].str.contains("1BA001")]
    # Water everywhere in the mask, but where the MR is so dark at its edge that it counts as air around the head.
    assert water["volume_mae_hu"].item() == pytest.approx(np.abs(truth[mask]).mean(), rel=0.15)
    assert "MR → CT: 2 volumes of 2 groups, in the body" in printed
    page = (project / "reports/synthrad/report.html").read_text()
    assert "whole volumes, in Hounsfield units" in page
    assert f"{volumes['test']['volume_mae_hu']:.1f} [" in page


def test_pairs_of_one_name_join_those_that_the_layout_found(tmp_path: Path) -> None:
    """007 is no patient by its name, so the layout does not pair it; it was left out without a word."""
    for place in ("ct/A01.nii", "mr/A01.nii", "ct/007.nii", "mr/007.nii", "ct/008.nii"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    pairs.write([{"ct": "ct/A01.nii", "mr": "mr/A01.nii", "contrast": "", "group": "A01", "place": "any"}], tmp_path)
    registered_pairs._pair_by_name(tmp_path, tmp_path)
    assert [(pair["ct"], pair["group"]) for pair in pairs.read(tmp_path)] == [("ct/007.nii", ""), ("ct/A01.nii", "A01")]


def test_pairs_without_a_head_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        {"path": f"{modality}/{number}.png", "modality": modality, "pair": number, "head_share": share, "complaint": complaint}
        for number, shares, complaint in ((0, (0.4, 0.4), ""), (1, (0.0, 0.4), ""), (2, (0.0, 0.0), "damaged"))
        for modality, share in zip(("ct", "mr"), shares, strict=True)
    ]
    table = pd.DataFrame(lines).assign(patient="", group_key="", contrast="", contrast_confidence=1.0)
    selected = registered_pairs._select_pairs(table, Path("mine"), None, None)
    assert selected["path"].tolist() == ["ct/0.png", "mr/0.png"]
    assert capsys.readouterr().out.splitlines() == [
        "left out: ct/2.png: damaged",
        "left out: mr/2.png: damaged",
        "left out: ct/1.png: no head found in it",
        "2 pairs left out, for the files above",
    ]
