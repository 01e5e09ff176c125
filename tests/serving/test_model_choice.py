"""Which model translates where nobody names one: the champion, else the model in the box; and that every door says which."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.formats.synthetic import Label
from pipeline.serving.jobs import models_to_serve
from pipeline.serving.model_choice import choose_folder, choose_translator, describe_choice, recognise_target, reload_if_changed
from pipeline.tracking import registry
from pipeline.tracking.answers import RegisteredModel
from tests.serving import examinations
from tests.tracking import projects

# `ctmr` with another box, which says at the end whether MLflow was imported.
CTMR = """
import sys
from pathlib import Path
from pipeline import paths
paths.BOX = Path(sys.argv.pop(1))
from pipeline.cli import app
app(standalone_mode=False)
print("mlflow imported:", "mlflow" in sys.modules)
"""


@pytest.fixture
def clone(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as it is after `git clone`: params and graph, no data, no models, no store; and a box that is not empty."""
    folder = tmp_path / "clone"
    (folder / "mlruns").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).write_bytes((projects.SOURCE / name).read_bytes())
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(paths, "BOX", models)
    return folder


def ctmr(clone: Path, box: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone.parent / "home"), "PYTHONPATH": str(projects.SOURCE)}
    command = [sys.executable, "-c", CTMR, str(box), *arguments]
    ended = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_fresh_clone_translates_by_the_model_in_the_box(clone: Path, models: Path, heads) -> None:
    examinations.nifti(clone / "scan.nii.gz", 1000 * heads[1])
    said = ctmr(clone, models, "translate", "scan.nii.gz", "ct.nii.gz")
    first = said.splitlines()[0]
    assert first.startswith("MR → CT by mr-to-ct in the box")
    assert "taught by simulated heads alone; there is no registry here" in first
    assert np.asarray(nibabel.load(clone / "ct.nii.gz").dataobj).min() == -1000
    assert "mlflow imported: False" in said
    assert list((clone / "mlruns").iterdir()) == []  # looking for a champion makes no store


def test_tables_and_wrong_names_make_no_store_either(clone: Path) -> None:
    from pipeline.tracking.models_command import show_models

    show_models()
    with pytest.raises(UserError, match=r"no registry here; .*--model box"):
        choose_translator("mr-to-ct/9", "ct")
    assert list((clone / "mlruns").iterdir()) == []


def test_the_champion_comes_before_the_box(clone: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = RegisteredModel(
        "mr-to-ct", "3", json.loads((models / "model.json").read_text())["directions"]["mr_to_ct"]["sha256"], {}, models
    )
    (clone / "mlruns/mlflow.db").touch()
    monkeypatch.setattr(registry, "find_champion", lambda direction: champion if direction == "mr_to_ct" else None)
    to_ct, to_mr = choose_translator(None, "ct"), choose_translator(None, "mr")
    assert describe_choice(to_ct, None) == "MR → CT by mr-to-ct version 3, champion in mlruns/mlflow.db"
    assert describe_choice(to_mr, None).endswith("taught by simulated heads alone; no champion in mlruns/mlflow.db")
    named = choose_translator("box", "ct")
    assert named.label.in_the_box
    assert describe_choice(named, "box").endswith("taught by simulated heads alone")
    assert models_to_serve(["box"]) == {"mr": "box", "ct": "box"}


def test_a_page_that_serves_the_box_takes_the_champion_that_comes(clone: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = choose_translator(None, "ct")
    assert reload_if_changed(box, None, "ct") == (box, [])
    champion = RegisteredModel("mr-to-ct", "1", box.label.digest, {}, models)
    monkeypatch.setattr(registry, "find_champion", lambda _: champion)
    served, notes = reload_if_changed(box, None, "ct")
    assert (served.label.version, notes) == ("1", [])
    monkeypatch.setattr(registry, "find_champion", lambda _: None)
    still, notes = reload_if_changed(served, None, "ct")
    assert still is served  # no other model translates without a word
    assert "mr-to-ct has no champion now" in notes[0]
    assert reload_if_changed(box, "box", "ct") == (box, [])


def test_a_copy_without_weights_says_so(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "BOX", tmp_path / "nothing")
    with pytest.raises(UserError, match="has no model in the box; train one"):
        choose_translator(None, "ct")
    assert choose_folder(None) == paths.MODELS


def test_pairs_are_scored_with_the_models_of_the_folder_else_the_box(clone: Path, models: Path) -> None:
    assert choose_folder(None) == models
    assert choose_folder("box") == models
    assert choose_folder("other") == Path("other")
    (clone / "models").mkdir()
    (clone / "models/model.json").write_text("{}")
    assert choose_folder(None) == paths.MODELS


def test_what_is_made_follows_from_what_is_there(heads, tmp_path: Path) -> None:
    ct, mr = heads
    examinations.nifti(tmp_path / "ct.nii", ct)
    examinations.nifti(tmp_path / "offset.nii", ct + 1024)
    examinations.nifti(tmp_path / "mr.nii", 1000 * mr)
    examinations.dicom_series(tmp_path / "series", mr, "MR")
    targets = {name: recognise_target(tmp_path / name, "auto") for name in ("ct.nii", "offset.nii", "mr.nii", "series")}
    assert targets == {"ct.nii": "mr", "offset.nii": "mr", "mr.nii": "ct", "series": "ct"}
    with pytest.raises(UserError, match="does not say whether it is CT or MR"):
        recognise_target(examinations.png(tmp_path / "picture.png", mr[0]), "auto")


def test_a_label_says_where_a_model_comes_from() -> None:
    digest = "0123456789abcdef"
    labels = [Label("mr-to-ct", digest=digest, in_the_box=True), Label("mr-to-ct", digest=digest), Label("mr-to-ct", "3", digest)]
    assert [str(label) for label in labels] == ["mr-to-ct in the box 01234567", "mr-to-ct 01234567", "mr-to-ct version 3"]
