"""validate, split and preprocess as they are run, on a handful of simulated heads."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline import paths
from pipeline.dataset import prepare_slices, slice_arrays
from pipeline.formats import table
from pipeline.imaging import head, intensity
from pipeline.imaging.prepare import prepare
from pipeline.params import load
from pipeline.phantom import shares
from pipeline.sources import packs
from pipeline.sources.table import download
from stages import preprocess, split, validate

PROJECT = Path(__file__).parents[2]
CHANGES = {
    "data": {"phantom": {"subjects": 6, "test_subjects": 3, "slices": 2, "pixels": 128, "seed": 1}},
    "preprocess": {"pixels": 64, "teacher_pairs": 6},
}


def change_params(folder: Path, **sections: dict) -> None:
    content = yaml.safe_load((folder / "params.yaml").read_text())
    for section, values in sections.items():
        content[section].update(values)
    if not content["preprocess"]["teacher_pairs"]:
        content["train"]["teacher"]["images"] = 0
    (folder / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder after download, validate, split and preprocess; read only."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(PROJECT / "params.yaml", folder)
    change_params(folder, **CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        download(load().data)
        for stage in (validate, split, preprocess):
            stage.main()
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to change, as the working folder."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_manifest_lists_every_image(made: Path) -> None:
    manifest = pd.read_parquet(made / paths.MANIFEST)
    files = {file.relative_to(made / paths.RAW).as_posix() for file in (made / paths.RAW).glob("*/*/*")}
    assert set(manifest["path"]) == files
    assert manifest["slice_id"].is_unique
    assert set(manifest["status"]) == {"ok"}
    assert (manifest["pair"] >= 0).sum() == 2 * len(pd.read_csv(made / paths.PAIRS_CSV))
    paired = manifest[(manifest["pair"] >= 0) & (manifest["modality"] == "mr")]
    assert set(paired["contrast_confidence"]) == {1.0}
    assert paired["contrast"].isin(["t1", "t2", "flair", "pd"]).all()


def test_a_simulated_head_stays_in_one_split(made: Path) -> None:
    slices = pd.read_parquet(made / paths.MANIFEST).merge(pd.read_parquet(made / paths.SPLIT), on="slice_id")
    assert slices["patient"].nunique() == 2 * 6 + 3
    assert (slices.groupby("patient")["split"].nunique() == 1).all()
    said = json.loads((made / paths.SPLIT_JSON).read_text())["patients"]
    assert (said["told_by_path"], said["slices_without"]) == (15, 0)
    assert said["understood"] == "patients: 15, each a simulated head"


def test_the_report_stands_alone_and_says_nothing_of_this_machine(made: Path) -> None:
    page = (made / paths.QUALITY_REPORT / "index.html").read_text()
    for link in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (made / paths.QUALITY_REPORT / link).is_file()
    assert not re.search(r"https?://|<script", page)
    everything = b"".join(file.read_bytes() for file in (made / "reports").rglob("*") if file.is_file())
    assert str(made).encode() not in everything


def test_the_same_data_gives_the_same_bytes(project: Path) -> None:
    outputs = [paths.MANIFEST, paths.SPLIT, paths.SPLIT_JSON, *(f for d in (paths.QUALITY_REPORT, paths.SLICES) for f in d.rglob("*.*"))]
    before = {file: file.read_bytes() for file in outputs}
    for stage in (validate, split, preprocess):
        stage.main()
    assert {file for file in outputs if file.read_bytes() != before[file]} == set()


def test_a_cluster_gives_the_same_bytes(project: Path, dask_scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [paths.MANIFEST, *(file for folder in (paths.RAW, paths.SLICES) for file in folder.rglob("*.*"))]
    before = {file: file.read_bytes() for file in outputs}
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", dask_scheduler)
    monkeypatch.setattr("pipeline.parallel._on_processes", None)  # nothing is done here
    download(load().data)
    validate.main()
    preprocess.main()
    assert {file for file in outputs if file.read_bytes() != before[file]} == set()


def test_every_stored_slice_can_be_traced_back_to_its_pixels(made: Path) -> None:
    index = slice_arrays.load_index(made / paths.SLICES)
    assert list(index.columns) == prepare_slices.COLUMNS
    for line in index.iloc[:: len(index) // 12].to_dict("records"):
        box = prepare_slices.box_of(line)
        stored = slice_arrays.to_float(slice_arrays.load_array(line["split"], line["modality"], made / paths.SLICES)[line["row"]])
        slice_ = table.read_slices(made / paths.RAW / line["path"])[line["frame"]]
        source = slice_.pixels
        assert source.shape == (line["source_height"], line["source_width"])
        back = head.paste(stored, box, source.shape, slice_.scale)
        back = intensity.display(back, line["modality"], load(made / "params.yaml").preprocess.ct_window)
        seen = head.paste(np.ones_like(stored), box, source.shape, slice_.scale) > 0.99
        assert np.corrcoef(back[seen], source[seen])[0, 1] > 0.9


def test_truth_lies_in_the_box_of_the_slice_that_is_translated(made: Path) -> None:
    index = slice_arrays.load_index(made / paths.SLICES)
    paired = index[index["pair"] >= 0]
    assert set(paired["split"]) == {"test"}
    for given, wanted in (("ct", "mr"), ("mr", "ct")):
        truth = slice_arrays.load_array("truth", wanted, made / paths.SLICES)
        sides = {modality: paired[paired["modality"] == modality].set_index("pair") for modality in paths.MODALITIES}
        assert len(truth) == 6
        for pair in range(6):
            source = table.read_slices(made / paths.RAW / sides[wanted].loc[pair, "path"])[0]
            box = prepare_slices.box_of(sides[given].loc[pair].to_dict())
            expected = prepare(source, wanted, load(made / "params.yaml").preprocess, box).array
            assert np.abs(slice_arrays.to_float(truth[pair]) - expected).max() <= 0.5 / 65535 + 1e-6


def test_teacher_heads_are_stored_as_tissue_shares(made: Path) -> None:
    index = slice_arrays.load_teacher_index(made / paths.SLICES)
    assert index["row"].tolist() == list(range(6))
    assert index["side"].between(60, 260).all()
    stored = slice_arrays.load_shares("teacher", made / paths.SLICES)
    assert stored.shape == (6, shares.CHANNELS, *shares.grid_shape(64))
    assert stored.dtype == np.uint8
    assert (stored[:, shares.MOST : 2 * shares.MOST].sum(1, dtype=int) == 255).all()
    for channels, side in zip(stored, index["side"], strict=True):
        rows, columns = np.nonzero(channels[-1])
        assert max(np.ptp(rows) + 1, np.ptp(columns) + 1) * shares.grid_spacing(64) == pytest.approx(side)


def test_the_stored_arrays_are_checked_and_a_black_one_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = json.loads((paths.SLICES / "validation.json").read_text())
    assert {"groups", "pairs", "files", "arrays"} <= {result["table"] for result in checked["expectations"]}
    assert all(result["success"] for result in checked["expectations"])
    before = paths.INDEX.read_bytes()
    line = slice_arrays.load_index().query("modality == 'ct' and split == 'train'").iloc[0]
    Image.fromarray(np.zeros((line["source_height"], line["source_width"]), np.uint8)).save(paths.RAW / line["path"])
    with pytest.raises(SystemExit):
        preprocess.main()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "no stored slice is black (1 exceptions in arrays.stored_largest" in message
    assert paths.INDEX.read_bytes() == before


def test_no_simulated_pairs_are_made_when_none_are_asked_for(project: Path) -> None:
    change_params(project, preprocess={"teacher_pairs": 0})
    preprocess.main()
    assert not list(paths.SLICES.glob("*_shares.npy"))


def test_unfit_images_are_quarantined_with_a_reason_and_a_sheet(project: Path) -> None:
    folder = paths.RAW / "mr" / "train"
    good = sorted(folder.glob("*.png"))
    shutil.copy(good[0], folder / "zz_copy.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "cut.png").write_bytes(good[1].read_bytes()[:3000])
    for name, shape in {"tiny": (40, 40), "wide": (100, 300), "blank": (200, 200)}.items():
        Image.fromarray(np.full(shape, 70, np.uint8)).save(folder / f"{name}.png")
    change_params(project, quality={"max_quarantined": 0.5})
    validate.main()
    table = pd.read_csv(paths.QUARANTINE_CSV, keep_default_na=False).set_index("slice_id")
    assert table["reason"].to_dict() == {
        "mr/train/zz_copy": "exact duplicate",
        "mr/train/broken": "unreadable",
        "mr/train/cut": "truncated",
        "mr/train/tiny": "too small",
        "mr/train/wide": "extreme aspect",
        "mr/train/blank": "blank",
    }
    assert (paths.QUALITY_REPORT / "sheets" / "mr_exact_duplicate.png").is_file()
    assert json.loads(paths.VALIDATION_JSON.read_text())["counts"]["mr"]["quarantined"]["truncated"] == 1
    split.main()
    assert not set(pd.read_parquet(paths.SPLIT)["slice_id"]) & set(table.index)


def test_slices_in_packs_give_the_same_bytes(made: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_ABOVE", 10)
    monkeypatch.setattr(packs, "EACH", 5)
    download(load().data, in_packs=True)
    assert len(list(paths.RAW.glob("packs/*.zip"))) > 1
    assert not (paths.RAW / "ct").exists()
    for stage in (validate, split, preprocess):
        stage.main()
    files = [
        file.relative_to(made) for file in (made / "data").rglob("*") if file.is_file() and paths.RAW not in file.relative_to(made).parents
    ]
    assert paths.INDEX in files
    assert [file for file in files if (made / file).read_bytes() != file.read_bytes()] == []
    assert list(Path("data").glob(".*")) == []


def test_too_many_unfit_images_end_in_one_line_and_leave_earlier_outputs_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = paths.MANIFEST.read_bytes(), paths.VALIDATION_JSON.read_bytes()
    for number in range(30):
        (paths.RAW / "ct" / "train" / f"broken{number}.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as end:
        validate.main()
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "of the CT slices are unfit (30 unreadable; ct/train/broken0.png: no PNG, JPEG, TIFF, BMP" in message
    assert "more than quality.max_quarantined = 0.25" in message
    assert (paths.MANIFEST.read_bytes(), paths.VALIDATION_JSON.read_bytes()) == before
    assert (paths.QUALITY_FAILED / "index.html").is_file()
