"""Each flaw gets its own reason; thresholds come from params; looks are judged from pixels."""

import csv
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from pipeline import phantom
from pipeline.dataset import manifest, quality
from pipeline.formats.slices import Slice
from pipeline.params import load

PROJECT = Path(__file__).parents[2]
QUALITY = load(PROJECT / "params.yaml").quality


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    """A CT and an MR picture of one simulated head, 0..1."""
    simulated = phantom.simulate_subject(11, [0.55], size=192, contrast="t2")[0]
    return {name: picture.astype(np.float32) / 255 for name, picture in zip(("ct", "mr"), phantom.render_pair(simulated, 3), strict=True)}


def judged(picture: np.ndarray, modality: str = "mr", quality_params=QUALITY, **facts: object) -> pd.Series:
    row = manifest.Row(f"{modality}/x", modality, f"{modality}/x.png", 0, "")
    colour = float(facts.pop("colour", 0.0))
    facts = manifest.measure(Slice(picture.astype(np.float32), colour=colour), modality) | facts
    table = pd.DataFrame([{**vars(row), **facts, "pair": -1}])
    return quality.judge(table, quality_params).iloc[0]


def test_a_sound_head_passes(pictures: dict[str, np.ndarray]) -> None:
    for modality, picture in pictures.items():
        assert judged(picture, modality)[["status", "reason", "warning"]].tolist() == ["ok", "", ""]


@pytest.mark.parametrize(
    ("reason", "damage"),
    [
        ("too small", lambda mr: mr[::4, ::4]),
        ("extreme aspect", lambda mr: mr[:, 50:140]),
        ("blank", lambda mr: 0.1 + 0.05 * mr),
        ("inverted", lambda mr: 1 - mr),
        ("saturated", lambda mr: np.clip(mr * 8, 0, 1)),
    ],
)
def test_each_flaw_has_its_reason(pictures: dict[str, np.ndarray], reason: str, damage) -> None:
    assert judged(damage(pictures["mr"]))["reason"] == reason


def test_a_picture_without_a_head(pictures: dict[str, np.ndarray]) -> None:
    dots = np.zeros((200, 200), np.float32)
    dots[::40, ::40] = 1
    dots[10:14, 10:190] = 1
    assert judged(dots, "ct", QUALITY.model_copy(update={"min_contrast": 0.01}))["reason"] == "no head"


def test_coloured_pictures_are_sorted_out(pictures: dict[str, np.ndarray]) -> None:
    assert judged(pictures["mr"], colour=0.05)["reason"] == "colour overlay"


def test_ct_among_mr_and_mr_among_ct_are_the_wrong_modality(pictures: dict[str, np.ndarray]) -> None:
    found = []
    for seed in range(11, 17):
        drawn = phantom.render_pair(phantom.simulate_subject(seed, [0.55], size=192)[0], 3)
        found += [judged(picture / np.float32(255), modality)["reason"] for picture, modality in zip(drawn, ("mr", "ct"), strict=True)]
    assert found.count("wrong modality") >= 9  # of 12: only what is nearly certain is sorted out
    never = QUALITY.model_copy(update={"wrong_modality": 1.0})
    assert judged(pictures["ct"], "mr", never)["reason"] == ""


def test_what_the_file_says_counts_more_than_looks(pictures: dict[str, np.ndarray]) -> None:
    assert judged(pictures["ct"], "mr", file_modality="mr")["reason"] == ""
    assert judged(pictures["mr"], "mr", file_modality="ct")["reason"] == "wrong modality"


def test_burned_in_text_is_a_warning_and_no_reason(pictures: dict[str, np.ndarray]) -> None:
    labelled = Image.fromarray((pictures["mr"] * 255).astype(np.uint8))
    ImageDraw.Draw(labelled).text((3, 3), "TR 4000 TE 90", fill=255)
    row = judged(np.asarray(labelled) / 255)
    assert (row["status"], row["warning"]) == ("ok", "burned-in text or ruler")


def test_of_equal_pixels_the_paired_one_stays() -> None:
    columns = {"height": 200, "width": 200, "spread": 0.2, "head_share": 0.4, "border": 0.0, "colour": 0.0, "saturated": 0.0}
    columns |= {"ct_likelihood": 0.9, "marks": 0, "below": False, "faults": ""}
    rows = [
        {"slice_id": name, "modality": "ct", "sha256": "same", "pair": pair, "complaint": "", "file_modality": ""} | columns
        for name, pair in (("ct/a", -1), ("ct/b", 0), ("ct/c", -1))
    ]  # fmt: skip
    assert quality.judge(pd.DataFrame(rows), QUALITY)["reason"].tolist() == ["exact duplicate", "", "exact duplicate"]


@pytest.mark.real
def test_real_slices_are_judged_as_by_eye(real_data: Path) -> None:
    labels = list(csv.DictReader((PROJECT / "tests" / "dataset" / "real_labels.csv").open()))
    chosen = [label for label in labels if label["modality"] == "ct"] + [
        label for label in labels if label["contrast"] in ("t1", "t2", "flair")
    ]
    with zipfile.ZipFile(real_data / "ct-to-mri-cgan.zip") as archive:
        names = {Path(name).parent.name + "/" + Path(name).name: name for name in archive.namelist() if "__MACOSX" not in name}
        facts = []
        for label in chosen:
            picture = Image.open(BytesIO(archive.read(names[f"{label['split']}B/{label['name']}.jpg"]))).convert("L")
            facts.append(manifest.measure(Slice(np.asarray(picture, np.float32) / 255), "mr"))
    looks_ct = np.array([fact["ct_likelihood"] > QUALITY.wrong_modality for fact in facts])
    is_ct = np.array([label["modality"] == "ct" for label in chosen])
    assert looks_ct[is_ct].mean() > 0.9
    assert looks_ct[~is_ct].mean() < 0.01
    told = [(label["contrast"], fact["contrast"]) for label, fact in zip(chosen, facts, strict=True) if label["contrast"]]
    assert np.mean([label == found for label, found in told]) > 0.65
    assert np.mean([(label == "t2") == (found == "t2") for label, found in told]) > 0.9
